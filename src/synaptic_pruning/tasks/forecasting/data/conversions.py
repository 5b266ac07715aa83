"""Convert the publishers' files to the canonical CSV, one function per data set.

The functions do what regular expressions in `datasets.toml` cannot: sort, drop repeated rows, choose columns, rewrite
dates. Cells are copied as they are written. The checksum decides whether the outcome is the right file.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from synaptic_pruning.tasks.download import Conversion
from synaptic_pruning.tasks.forecasting.data.rdata_reader import read_rdata

CONVERSIONS: dict[str, Conversion] = {}
"""Functions that make our file out of the publisher's, by name of the data set."""


def _converts(name: str) -> Callable[[Conversion], Conversion]:
    def register(function: Conversion) -> Conversion:
        CONVERSIONS[name] = function
        return function

    return register


def _rows(original: bytes, separator: str = ",") -> list[list[str]]:
    """Return the cells of every line, header included; only headers, which are replaced, hold bytes outside UTF-8."""
    text = original.decode("utf-8-sig", errors="replace")
    return [row for row in csv.reader(io.StringIO(text), delimiter=separator) if row]


def _file(header: str, rows: Iterable[Sequence[str]]) -> bytes:
    return "".join(f"{line}\n" for line in (header, *map(",".join, rows))).encode()


def _time(text: str, pattern: str) -> str:
    return datetime.strptime(text, pattern).isoformat(" ")


def _day(text: str, pattern: str) -> str:
    return _time(text, pattern)[:10]


def _numbered(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    return [[str(place), *row] for place, row in enumerate(rows)]


def _first(rows: Iterable[Sequence[str]]) -> dict[str, str]:
    """Return the values by time; the first one where a time is repeated."""
    found: dict[str, str] = {}
    for time, value in rows:
        found.setdefault(time, value)
    return found


@_converts("appliances-energy")
def _appliances_energy(original: bytes) -> bytes:
    """Leave out the last two columns, which are random numbers, and trailing zeros."""
    header, *rows = _rows(original)
    short = ([row[0], *map(str.strip, row[1:3]), *(str(float(cell)) for cell in row[3:-2])] for row in rows)
    return _file(",".join(header[:-2]), short)


@_converts("beijing-pm25")
def _beijing_pm25(original: bytes) -> bytes:
    header, *rows = _rows(original)
    hours = (
        [_time("-".join(row[1:5]), "%Y-%m-%d-%H"), row[5].replace("NA", ""), *row[6:]]
        for row in rows
        if row[1] >= "2011"
    )
    return _file(",".join(["date", *header[5:]]), hours)


@_converts("bike-sharing-dc")
def _bike_sharing_dc(original: bytes) -> bytes:
    header, *rows = _rows(original)
    hours = (
        [f"{row[1]} {row[5]:0>2}:00:00", *row[2:10], *(str(float(c)) for c in row[10:14]), *row[14:]] for row in rows
    )
    return _file(",".join(["date", *header[2:]]), hours)


@_converts("chicago-transit")
def _chicago_transit(original: bytes) -> bytes:
    days = {(_day(row[0], "%m/%d/%Y"), *row[1:]) for row in _rows(original)[1:]}  # the file repeats two months
    return _file("date,day_type,bus,rail_boardings,total_rides", sorted(days))


@_converts("denmark-carbon")
def _denmark_carbon(original: bytes) -> bytes:
    names = ("Carbon Intensity gCO2eq/kWh (direct)", "Carbon Intensity gCO2eq/kWh (LCA)")
    header = ",".join(("date", *names, "Low Carbon Percentage", "Renewable Percentage"))
    return _file(header, ([_time(row[0], "%Y/%m/%d %H:%M"), *row[4:8]] for row in _rows(original)[1:]))


@_converts("ecg")
def _ecg(original: bytes) -> bytes:
    import numpy as np

    with np.load(io.BytesIO(original)) as arrays:
        return _file("index,ecg_raw", _numbered([str(value)] for value in arrays["ecg"][:36_000]))


@_converts("eeg-eye-state")
def _eeg_eye_state(original: bytes) -> bytes:
    lines = original.decode().splitlines()
    names = [line.split()[1] for line in lines if line.upper().startswith("@ATTRIBUTE")]
    data = [line.upper().strip() for line in lines].index("@DATA") + 1
    return _file(",".join(["index", *names]), _numbered([line] for line in lines[data:] if line))


@_converts("gefcom2014-price")
def _gefcom2014_price(original: bytes) -> bytes:
    """Leave out the last day, which has no prices."""
    rows = [row for row in _rows(original)[1:] if row[4]]
    hours = ([_time(stamp, "%m%d%Y %H:%M"), price, total, zonal] for _, stamp, total, zonal, price in rows)
    return _file("date,Zonal Price,Forecasted Total Load,Forecasted Zonal Load", hours)


@_converts("halifax-sea-level")
def _halifax_sea_level(original: bytes) -> bytes:
    rows = [row for row in _rows(original) if "2003/01/01 13:00" <= row[0] < "2004"]  # eight lines come before the rows
    return _file("date,elevation_m", ([_time(row[0], "%Y/%m/%d %H:%M"), str(float(row[1]))] for row in rows))


@_converts("heart-rate")
def _heart_rate(original: bytes) -> bytes:
    return _file("index,heart_rate", _numbered(_rows(original)[1:]))


@_converts("household-hourly")
def _household_hourly(original: bytes) -> bytes:
    """Sum the minutes of every hour; the canonical file has the unmetered rest in single precision."""
    import pandas as pd

    minutes = pd.read_csv(io.BytesIO(original), sep=";", na_values="?", dtype=dict.fromkeys(range(2, 9), "float64"))
    days = minutes.pop("Date") + " " + minutes.pop("Time")
    minutes.index = pd.DatetimeIndex(pd.to_datetime(days, format="%d/%m/%Y %H:%M:%S"), name="datetime")
    power, _, _, _, *meters = (minutes[name].astype("float32") for name in minutes)
    minutes["sub_metering_4"] = (power * 1000 / 60 - sum(meters)).to_numpy().astype(str).astype("float64")
    return minutes.resample("h").sum().to_csv(lineterminator="\r\n").encode()


@_converts("internet-traffic")
def _internet_traffic(original: bytes) -> bytes:
    return _file("date,bits", _rows(original)[2:])  # without the first hour


@_converts("keywest-water-temperature")
def _keywest_water_temperature(original: bytes) -> bytes:
    header, *rows = _rows(original)
    time, value = header.index("DateTime"), header.index("WaterTemp")
    hours = [[_time(row[time], "%m/%d/%Y %H:%M"), row[value]] for row in rows]
    return _file("date,WaterTemp", (hour for hour in hours if hour[0] < "2017-03-01"))


@_converts("london-weather")
def _london_weather(original: bytes) -> bytes:
    measured = "cloud_cover,sunshine,global_radiation,max_temp,mean_temp,min_temp,precipitation,pressure,snow_depth"
    return _file(f"date,{measured}", ([_day(row[0], "%Y%m%d"), *row[1:]] for row in _rows(original)[1:]))


@_converts("los-loop-speed")
def _los_loop_speed(original: bytes) -> bytes:
    header, *rows = _rows(original)
    return _file(",".join(["index", *(f"sensor_{name}" for name in header[:10])]), _numbered(row[:10] for row in rows))


@_converts("m4-hourly")
def _m4_hourly(original: bytes) -> bytes:
    """Take ten of the archive's 414 series; H1 is its T1."""
    series = dict(line.split(":")[::2] for line in original.decode("latin-1").splitlines() if re.match(r"T\d+:", line))
    places = range(170, 387, 24)
    columns = (series[f"T{place}"].split(",") for place in places)
    rows = zip(*((cell.removesuffix(".0") for cell in column) for column in columns), strict=True)
    return _file(",".join(["index", *(f"H{place}" for place in places)]), _numbered(rows))


@_converts("machine-temperature")
def _machine_temperature(original: bytes) -> bytes:
    return _file("date,value", _first(_rows(original)[1:]).items())  # the file repeats an hour


@_converts("melbourne-pedestrians")
def _melbourne_pedestrians(original: bytes) -> bytes:
    """Make R's long table wide, without the hours in which no sensor counted."""
    table = read_rdata(original, "pedestrian")
    hours: dict[float, dict[str, str]] = {}
    for sensor, second, count in zip(table["Sensor"], table["Date_Time"], table["Count"], strict=True):
        hours.setdefault(float(second), {})[sensor] = str(int(count))
    sensors = sorted(set(table["Sensor"]))
    rows = (
        [f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S}", *(hours[second].get(name, "") for name in sensors)]
        for second in sorted(hours)
    )
    return _file(",".join(["date_utc", *sensors]), rows)


@_converts("montreal-discharge")
def _montreal_discharge(original: bytes) -> bytes:
    """Take date and value out of station, date, parameter, value, symbol."""
    return _file("date,Discharge", ([row[1], row[3].removesuffix(".0")] for row in _rows(original)[1:]))


@_converts("pjm-east-load")
def _pjm_east_load(original: bytes) -> bytes:
    hours = _first(_rows(original)[1:])  # clocks repeat an hour in autumn
    return _file("date,PJME_MW", sorted(row for row in hours.items() if row[0] >= "2014-08-03"))


@_converts("seoul-bike")
def _seoul_bike(original: bytes) -> bytes:
    header, *rows = _rows(original)
    names = [name.replace("\ufffd", "") for name in header]  # a degree sign of another encoding
    hours = ([_time(f"{row[0]} {row[2]}", "%d/%m/%Y %H"), *row[2:], row[1]] for row in rows)
    return _file(",".join(["date", *names[2:], names[1]]), hours)


@_converts("solar-radiation")
def _solar_radiation(original: bytes) -> bytes:
    header, *rows = _rows(original)
    place = {name.partition("(")[0]: column for column, name in enumerate(header)}
    names = ["Temperature", "Pressure", "Humidity", "WindDirection", "Speed", "TimeSunRise", "TimeSunSet", "Radiation"]
    moments = [
        [
            f"{_day(row[place['Date']].split()[0], '%m/%d/%Y')} {row[place['Time']]}",
            *(row[place[name]] for name in names),
        ]
        for row in rows
    ]
    header = ["date", *names]
    header[header.index("WindDirection")] += "(Degrees)"
    return _file(",".join(header), sorted(moments))


@_converts("steel-energy")
def _steel_energy(original: bytes) -> bytes:
    """Date midnight with the day that it begins; the publisher's file dates it with the day that it ends."""
    header, *rows = _rows(original)
    kept = [column for column, name in enumerate(header) if name not in ("date", "Day_of_week", "Usage_kWh")]
    found = []
    for row in rows:
        time = datetime.strptime(row[0], "%d/%m/%Y %H:%M")
        time += timedelta(days=time.hour == time.minute == 0)
        found.append([time.isoformat(" "), *(row[column] for column in kept), row[1]])
    return _file(",".join(["date", *(header[column] for column in kept), header[1]]), found)


@_converts("sunspots-daily")
def _sunspots_daily(original: bytes) -> bytes:
    rows = [[cell.strip() for cell in row] for row in _rows(original, ";")]
    days = (["-".join(row[:3]), *row[3:]] for row in rows if row[0] >= "1920")
    return _file("date,year_fraction,sunspot_number,std,n_obs,definitive", days)


@_converts("us-flu")
def _us_flu(original: bytes) -> bytes:
    header, *rows = _rows(original)
    empty = header.index("AGE 25-64")
    weeks = ([*row[:empty], *row[empty + 1 :]] for row in rows if row[0] >= "2002-10-13")
    return _file(",".join(["date", *header[1:empty], *header[empty + 1 :]]), weeks)


@_converts("us-gasoline")
def _us_gasoline(original: bytes) -> bytes:
    return _file("date,Gasoline", sorted([_day(day, "%m/%d/%Y"), value] for day, value in _rows(original)[1:]))


@_converts("wind-turbine")
def _wind_turbine(original: bytes) -> bytes:
    header = "date,LV ActivePower (kW),Wind Speed (m/s),Theoretical_Power_Curve (KWh),Wind Direction (deg)"
    rows = _rows(original)[1:40_001]
    return _file(header, ([_time(row[0], "%d %m %Y %H:%M"), *row[1:]] for row in rows))
