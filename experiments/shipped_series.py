"""Make the series that ship with the package: the first 2,000 rows of twelve public ones, with a few inputs.

Writes the files and ATTRIBUTION.md beside them, and prints what datasets.toml says of each.

Run from the repository: python experiments/shipped_series.py
"""

import gzip
import hashlib
from pathlib import Path

import pandas as pd

from synaptic_pruning.tasks.forecasting import DATASETS, load

SOURCES = Path("../shared/data")
OUT = Path("src/synaptic_pruning/tasks/forecasting/data/builtin/series")
ROWS = 2000
INPUTS = {
    "air-quality": ("PT08.S1(CO)", "NOx(GT)", "T", "RH"),
    "household-hourly": ("Global_reactive_power", "Voltage", "Sub_metering_3"),
    "bike-sharing-dc": ("workingday", "temp", "hum", "windspeed"),
    "seoul-bike": ("Temperature(C)", "Humidity(%)", "Solar Radiation (MJ/m2)", "Rainfall(mm)"),
    "appliances-energy": ("lights", "T_out", "RH_out"),
    "steel-energy": ("Lagging_Current_Reactive.Power_kVarh", "Lagging_Current_Power_Factor", "NSM"),
    "beijing-pm25": ("DEWP", "TEMP", "PRES", "Iws"),
    "melbourne-pedestrians": ("Birrarung Marr", "QV Market-Elizabeth St (West)"),
    "opsd-germany": (),
    "pjm-east-load": (),
    "eeg-eye-state": ("O2", "P7", "P8"),
    "us-gasoline": (),
}
"""The data sets by the names of their wholes, and the columns beside the target."""
SHORT = {"household-hourly": "household", "bike-sharing-dc": "dc-bike", "melbourne-pedestrians": "melbourne"}
"""Names that would be long otherwise."""
AUTHORS = {
    "air-quality": "Saverio De Vito (ENEA)",
    "household-hourly": "Georges Hebrail and Alice Berard",
    "bike-sharing-dc": "Hadi Fanaee-T; rentals of Capital Bikeshare",
    "seoul-bike": "Sathishkumar V E, Jangwoo Park and Yongyun Cho; rentals of the Seoul Metropolitan Government",
    "appliances-energy": "Luis M. Candanedo, Veronique Feldheim and Dominique Deramaix",
    "steel-energy": "Sathishkumar V E, Changsun Shin and Yongyun Cho",
    "beijing-pm25": "Song Chen",
    "melbourne-pedestrians": "City of Melbourne; packaged with tsibble by Earo Wang and others",
    "opsd-germany": "Open Power System Data, from ENTSO-E and others",
    "pjm-east-load": "PJM Interconnection; compiled by Rob Mulla",
    "eeg-eye-state": "Oliver Roesler",
    "us-gasoline": "US Energy Information Administration; packaged with darts",
}
CHANGED = {
    "air-quality": "−200 became empty",
    "household-hourly": "hourly sums of minute readings",
    "melbourne-pedestrians": "one column a sensor; times in UTC",
    "eeg-eye-state": "values clipped to 3000–6000; rows numbered",
}
"""What was changed beside the cut; the notes of the wholes say more."""
HEAD = """# The series in this folder

Each is the first rows of a public data set: the target, a few inputs, nothing else. The times are written as
YYYY-MM-DD hh:mm:ss. The values are those of the source unless the last column says more. Licences are as commonly
stated for these sets. `experiments/shipped_series.py` made the files and this table.

CC BY 4.0: <https://creativecommons.org/licenses/by/4.0/>. CC0: <https://creativecommons.org/publicdomain/zero/1.0/>.

| file | source | authors | licence | changed |
|---|---|---|---|---|
"""


def main() -> None:
    OUT.mkdir(exist_ok=True)
    table = HEAD
    for whole, inputs in INPUTS.items():
        entry, name = DATASETS[whole], f"{SHORT.get(whole, whole)}-mini"
        series = load(whole, data_dir=SOURCES, rows=ROWS, inputs="all")
        columns = [entry.target, *inputs]
        frame = pd.DataFrame(series.values, index=pd.Index(series.times, name="time"), columns=list(series.columns))
        frame = frame[columns].convert_dtypes()  # whole numbers without ".0"
        content = frame.to_csv(lineterminator="\n").encode()
        (OUT / f"{name}.csv.gz").write_bytes(gzip.compress(content, 9, mtime=0))
        print(f'[{name}]\npart_of = "{whole}"')
        rows = f"{'all' if len(frame) == entry.rows else 'the first'} {len(frame):,} rows"
        print(f'description = "{entry.description}: {rows}"')
        print(f'bytes = {len(content):_}\nsha256 = "{hashlib.sha256(content).hexdigest()}"\nrows = {len(frame)}\n')
        changed = f"{rows}, {len(columns)} column{'s' if inputs else ''}"
        changed += f"; {CHANGED[whole]}" if whole in CHANGED else ""
        source = f"[{entry.source}]({entry.home})"
        table += f"| {name}.csv.gz | {source} | {AUTHORS[whole]} | {entry.licence} | {changed} |\n"
    (OUT / "ATTRIBUTION.md").write_text(table)


if __name__ == "__main__":
    main()
