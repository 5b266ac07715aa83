"""Make the publishers' files of the data sets from the rows of our canonical CSV."""

import io
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from helpers.sources.rdata_file import pedestrian

Rows = list[list[str]]


def _lines(*lines: str, end: str = "\n") -> str:
    return "".join(line + end for line in lines)


def _appliances(rows: Rows) -> str:
    header = [*("date", "Appliances", "lights"), *(f"{n}{i}" for i in range(1, 10) for n in ("T", "RH_"))]
    header += ["T_out", "Press_mm_hg", "RH_out", "Windspeed", "Visibility", "Tdewpoint", "rv1", "rv2"]
    lines = [
        [t, f"{use:>4}", light, *(f"{float(c):.17g}" for c in cells), "1.5", "1.5"] for t, use, light, *cells in rows
    ]
    return _lines(*(",".join(f'"{cell}"' for cell in line) for line in (header, *lines)), end="\r\n")


def _beijing(rows: Rows) -> str:
    lines = ["No,year,month,day,hour,pm2.5,DEWP,TEMP,PRES,cbwd,Iws,Is,Ir", "1,2010,1,1,0,NA,-21,-11,1021,NW,1.79,0,0"]
    for place, (text, value, *cells) in enumerate(rows, 8761):
        time = datetime.fromisoformat(text)
        when = f"{time.year},{time.month},{time.day},{time.hour}"
        lines.append(f"{place},{when},{value or 'NA'},{','.join(cells)}")
    return _lines(*lines, end="\r\n")


def _bikes(rows: Rows) -> str:
    header = "instant,dteday,season,yr,mnth,hr,holiday,weekday,workingday,weathersit,temp,atemp,hum,windspeed,casual"
    lines = (f"{n},{t[:10]},{','.join(c.removesuffix('.0') for c in cells)}" for n, (t, *cells) in enumerate(rows, 1))
    return _lines(f"{header},registered,cnt", *lines, end="\r\n")


def _chicago(rows: Rows) -> str:
    lines = []
    for place, (day, *cells) in enumerate(rows):
        lines.append(f"{_us(day)},{','.join(cells)}")
        if day in ("2011-10-31", "2014-07-31"):  # the month once more
            lines += lines[place - 30 :][:31] if day == "2011-10-31" else lines[-31:]
    last = lines.pop(next(i for i, line in enumerate(lines) if line.startswith("09/01/2017")))
    lines.insert(next(i for i, line in enumerate(lines) if line.startswith("09/30/2011")) + 1, last)
    return _lines("service_date,day_type,bus,rail_boardings,total_rides", *lines)


def _us(day: str) -> str:
    return f"{day[5:7]}/{day[8:]}/{day[:4]}"


def _denmark(rows: Rows) -> str:
    header = "Datetime (UTC),Country,Zone Name,Zone Id,direct,LCA,Low Carbon,Renewable,Data Source,Estimated,Method"
    return _lines(
        header,
        *(f"{_short(t)},Denmark,Denmark,DK,{','.join(cells)},entsoe.eu,FALSE," for t, *cells in rows),
        end="\r\n",
    )


def _short(text: str) -> str:
    time = datetime.fromisoformat(text)
    return f"{time.year}/{time.month}/{time.day} {time.hour}:{time:%M}"


def _eeg(rows: Rows) -> str:
    names = ["AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4"]
    columns = [f"@ATTRIBUTE {name} NUMERIC" for name in names]
    head = ["@RELATION EEG_DATA", "", *columns, "@ATTRIBUTE eyeDetection {0,1}", "", "@DATA"]
    return "\r\n".join([*head, *(",".join(row[1:]) for row in rows)])


def _gefcom(rows: Rows) -> str:
    """A spreadsheet wrote the hours of those days anew that could be months."""
    lines = []
    for text, price, total, zonal in rows:
        time = datetime.fromisoformat(text)
        hour = f"{time.hour}" if time.day <= 12 else f"{time.hour:02d}"
        lines.append(f"1,{time:%m%d%Y} {hour}:00,{total},{zonal},{price}")
    lines += [f"1,12172013 {hour:02d}:00,17549,5444," for hour in range(24)]
    return _lines("ZONEID,timestamp,Forecasted Total Load,Forecasted Zonal Load,Zonal Price", *lines, end="\r\n")


def _halifax(rows: Rows) -> str:
    about = ("Station_Name,HALIFAX", "Station_Number,490", "Latitude_Decimal_Degrees,44.666667")
    about += ("Longitude_Decimal_Degrees,63.583333", "Datum,CD", "Time_zone,UTC", "SLEV=Observed Water Level")
    first = [
        f"2003/01/01 {hour:02d}:00,{v}," for hour, v in enumerate([0.57, 0.63, 1.12, 1.54, 1.97, 2, 1.85, 1.74], 5)
    ]
    hours = (f"{time[:16].replace('-', '/')},{float(value):g}," for time, value in rows)
    return _lines(*about, "Obs_date,SLEV(metres)", *first, *hours, end="\r\n")


def _internet(rows: Rows) -> str:
    name = (
        "Internet traffic data (in bits) from a private ISP with centres in 11 European cities. The data corresponds "
        "to a transatlantic link and was collected from 06:57 hours on 7 June to 11:17 hours on 31 July 2005. "
        "Hourly data."
    )
    first = ["2005-06-07 07:00:00", "56718587433"]
    return _lines(f'"Time","{name}"', *(f'"{time}",{bits}' for time, bits in [first, *rows]), end="\r\n")


def _keywest(rows: Rows) -> str:
    lines = ['"","DateTime","WaterTemp","t"']
    for place, (text, value) in enumerate([*rows, ["2017-03-16 15:00:00", "73.6"]], 1):
        time = datetime.fromisoformat(text)
        lines.append(f'"{place}","{time.month}/{time.day}/{time.year} {time.hour}:{time:%M}",{value},{place}')
    return _lines(*lines)


def _m4(rows: Rows) -> str:
    """All 414 series, the ones that ours lacks made up, and a whole number with or without its point."""
    columns = {170 + 24 * place: cells for place, cells in enumerate(list(zip(*rows, strict=True))[1:])}
    others = (["12.5"] * (748 if place < 170 else 1008) for place in range(1, 415))
    series = (",".join(columns.get(place, other)) for place, other in enumerate(others, 1))
    head = ["# Dataset Information", "@relation M4", "@attribute series_name string", "@horizon 48", "@data"]
    return _lines(*head, *(f"T{place}:2017-05-01 12-00-00:{values}" for place, values in enumerate(series, 1)))


def _machine(rows: Rows) -> str:
    """An hour once more, with other values of the same length."""
    lines = [",".join(row) for row in rows]
    end = next(i for i, line in enumerate(lines) if line.startswith("2014-01-07 03:00"))
    again = [f"{line.split(',')[0]},9{place % 10}.00000000" for place, line in enumerate(lines[end - 12 : end])]
    return _lines("timestamp,value", *lines[:end], *again, *lines[end:])


def _melbourne(rows: Rows) -> bytes:
    """A sensor after the other, without the hours in which it did not count."""
    names = "Birrarung Marr", "Bourke Street Mall (North)", "QV Market-Elizabeth St (West)", "Southern Cross Station"
    cells = [(n, _utc(t), int(row[k])) for k, n in enumerate(names) for t, *row in rows if row[k]]
    sensors, seconds, counts = zip(*cells, strict=True)
    return pedestrian(list(sensors), list(seconds), list(counts))


def _utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _montreal(rows: Rows) -> str:
    header = " ID,Date,Parameter/Paramètre,Value/Valeur,Symbol/Symbole"
    return "\ufeff" + _lines(header, *(f"02OA016,{day},discharge/débit,{value}," for day, value in rows), end="\r\n")


def _pjm(rows: Rows) -> str:
    """Backwards, and the hour that clocks show twice."""
    lines = [",".join(row) for row in reversed(rows)]
    return _lines("ds,y", "2014-08-02 23:00:00,1.0", *lines, "2014-11-02 02:00:00,23755.0")


def _seoul(rows: Rows) -> bytes:
    header = "Date,Rented Bike Count,Hour,Temperature(°C),Humidity(%),Wind speed (m/s),Visibility (10m),"
    header += (
        "Dew point temperature(°C),Solar Radiation (MJ/m2),Rainfall(mm),Snowfall (cm),Seasons,Holiday,Functioning Day"
    )
    hours = (f"{t[8:10]}/{t[5:7]}/{t[:4]},{count},{','.join(cells)}" for t, *cells, count in rows)
    return _lines(header, *hours, end="\r\n").encode("latin-1")


def _solar(rows: Rows) -> str:
    months: dict[int, list[str]] = {}
    for text, *cells, rise, fall, radiation in rows:
        time = datetime.fromisoformat(text)
        epoch = int((time + timedelta(hours=10) - datetime(1970, 1, 1)).total_seconds())
        day = f"{time.month}/{time.day}/{time.year} 12:00:00 AM"
        line = ",".join([str(epoch), day, text[11:], radiation, *cells, rise, fall])
        months.setdefault(time.month, []).insert(0, line)
    header = "UNIXTime,Date,Time,Radiation,Temperature,Pressure,Humidity,WindDirection,Speed,TimeSunRise,TimeSunSet"
    return _lines(header, *(line for month in months.values() for line in month), end="\r\n")


def _steel(rows: Rows) -> bytes:
    names = "Lagging_Current_Reactive.Power_kVarh,Leading_Current_Reactive_Power_kVarh,CO2(tCO2)"
    names += ",Lagging_Current_Power_Factor,Leading_Current_Power_Factor,NSM,WeekStatus,Day_of_week,Load_Type"
    lines = [f"date,Usage_kWh,{names}"]
    for text, *cells, load, usage in rows:
        time = datetime.fromisoformat(text)
        day = time - timedelta(minutes=1)
        lines.append(f"{day:%d/%m/%Y} {time:%H:%M},{usage},{','.join(cells)},{day:%A},{load}")
    return _lines(*lines, end="\r\n").encode("utf-8-sig")


def _sunspots(rows: Rows) -> str:
    before = "1919;12;31;1919.999;  82;  8.1;   1;1"
    days = (f"{d.replace('-', ';')};{y};{s:>4};{e:>5};{n:>4};{f}" for d, y, s, e, n, f in rows)
    return _lines(before, *days)


def _gasoline(rows: Rows) -> str:
    days = [f"{day[5:7]}/{int(day[8:])}/{day[:4]},{value}" for day, value in reversed(rows)]
    return "\r\n".join(["Week,Gasoline", *days])


def _flu(rows: Rows) -> str:
    weeks = [
        ",".join([*row[:5], str(int(row[8]) - sum(int(row[i] or 0) for i in (3, 4, 6, 7))), *row[5:]]) for row in rows
    ]
    header = "DATE,% WEIGHTED ILI,%UNWEIGHTED ILI,AGE 0-4,AGE 25-49,AGE 25-64,AGE 5-24,AGE 50-64,AGE 65,ILITOTAL"
    return _lines(f"{header},NUM. OF PROVIDERS,TOTAL PATIENTS", "1997-10-12,1,1,179,,157,205,,29,570,192,46842", *weeks)


def _wind(rows: Rows) -> str:
    header = "Date/Time,LV ActivePower (kW),Wind Speed (m/s),Theoretical_Power_Curve (KWh),Wind Direction (°)"
    moments = (f"{t[8:10]} {t[5:7]} {t[:4]} {t[11:16]},{','.join(cells)}" for t, *cells in rows)
    return _lines(header, *moments, end="\r\n")


def _ecg(rows: Rows) -> bytes:
    packed = io.BytesIO()
    np.savez_compressed(packed, ecg=np.array([*(int(value) for _, value in rows), *range(900)], dtype=np.uint16))
    return packed.getvalue()


PUBLISHED: dict[str, Callable[[Rows], str | bytes]] = {
    "appliances-energy": _appliances,
    "beijing-pm25": _beijing,
    "bike-sharing-dc": _bikes,
    "chicago-transit": _chicago,
    "denmark-carbon": _denmark,
    "ecg": _ecg,
    "eeg-eye-state": _eeg,
    "gefcom2014-price": _gefcom,
    "halifax-sea-level": _halifax,
    "heart-rate": lambda rows: "\r\n".join(["Heart rate", *(value for _, value in rows)]),
    "internet-traffic": _internet,
    "keywest-water-temperature": _keywest,
    "london-weather": lambda rows: _lines(
        "date,cloud_cover,sunshine,global_radiation,max_temp,mean_temp,min_temp,precipitation,pressure,snow_depth",
        *(",".join([day.replace("-", ""), *cells]) for day, *cells in rows),
    ),
    "los-loop-speed": lambda rows: _lines(
        "773869,767541,767542,717447,717446,717445,773062,767620,737529,717816,765604",
        *(",".join([*cells, "1"]) for _, *cells in rows),
    ),
    "m4-hourly": _m4,
    "machine-temperature": _machine,
    "melbourne-pedestrians": _melbourne,
    "montreal-discharge": _montreal,
    "pjm-east-load": _pjm,
    "seoul-bike": _seoul,
    "solar-radiation": _solar,
    "steel-energy": _steel,
    "sunspots-daily": _sunspots,
    "us-flu": _flu,
    "us-gasoline": _gasoline,
    "wind-turbine": _wind,
}
"""By name of the data set."""


def published(name: str, ours: bytes) -> bytes:
    """Return the original of one of them, made from our file."""
    original = PUBLISHED[name]([line.split(",") for line in ours.decode().splitlines()[1:]])
    return original if isinstance(original, bytes) else original.encode()


def _numbered(body: bytes) -> bytes:
    """As R writes a table: quoted names, and a column of row numbers without one."""
    head, *rows = body.decode().splitlines()
    names = ",".join(f'"{name}"' for name in head.replace("year", "time").split(","))
    return "".join([f'"",{names}\n', *(f'"{i}",{row}\n' for i, row in enumerate(rows, 1))]).encode()


def _quoted(body: bytes) -> bytes:
    rows = body.decode().splitlines()[1:]
    return "\n".join(['"ds","y"', *('"{}",{}'.format(*row.split(",")) for row in rows)]).encode() + b"\n"


def _grown(head: bytes):
    """The same with line ends of Windows, and a day more."""
    return lambda body: (head + body[5:] + b"2026-09-01,1\n").replace(b"\n", b"\r\n")


REWRITTEN: dict[str, Callable[[bytes], bytes]] = {
    "vix": _grown(b"DATE,"),
    "natural-gas": _grown(b"Date,"),
    "wti-oil": _grown(b"Date,"),
    "wiki-peyton-manning": _quoted,
    "treering": _numbered,
    "eu-stock-indices": lambda body: body.replace(b"index,", b"rownames,"),
    "melbourne-min-temperature": lambda body: body.replace(b"date,", b"Date,"),
    "co2-mauna-loa": lambda body: re.sub(rb"(?m)^(\d{4})-(\d\d)-(\d\d)", rb"\1\2\3", body),
}
"""The same where `rewrite` and `keep` of the registry do: the source's file from ours."""
