"""Write `report.html`: one self-contained page with the answer first, then the evidence, losses included."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from synaptic_pruning.study.engine import About, versions, write_atomically
from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.report import tables
from synaptic_pruning.study.forecasting.report.by_series import by_series
from synaptic_pruning.study.forecasting.report.declared import Declared, null_check
from synaptic_pruning.study.forecasting.report.evidence import JUDGED, checks, friedman_tests, parts
from synaptic_pruning.study.forecasting.report.export_benchmark import BATCHES, Exported
from synaptic_pruning.study.forecasting.report.panels import choose_datasets, draw_panels
from synaptic_pruning.study.forecasting.report.verdict import (
    ARM,
    CHECKS,
    contestants,
    judge,
    losses,
    lost_to_persistence,
    p_is,
    signed,
)
from synaptic_pruning.study.forecasting.results import RunRecord
from synaptic_pruning.study.plots import DASHES, colour
from synaptic_pruning.study.statistics import CASE, MARGIN, PAPER_NOTE, block_means, paired, vos2025_statistic

_MOST_ROWS = 1000


@dataclass(frozen=True)
class Dataset:
    """Description of a data set on the page.

    Attributes:
        name: Name of the data set.
        target: Name of the target's column.
        rows: Number of rows.
        channels: Number of channels.
        season: Rows in a season.
        digest: SHA-256 of the series, in hexadecimal.
        reading: How its file was read, in one line; "" where no file of the user's was.
    """

    name: str
    target: str
    rows: int
    channels: int
    season: int
    digest: str
    reading: str = ""


def write_report(
    path: Path,
    results: pd.DataFrame,
    records: Sequence[RunRecord],
    *,
    plan: Plan,
    datasets: Sequence[Dataset],
    about: About,
    baselines: pd.DataFrame | None = None,
    outcomes: Sequence[Declared] = (),
    exported: Sequence[Exported] = (),
    trainings: int | None = None,
    cells: Path | None = None,
) -> None:
    """Write the page.

    Args:
        path: File to write.
        results: Table of runs, `results.to_table(records)`.
        records: The selected records.
        plan: Plan of the study.
        datasets: Data sets that the cells ran on.
        about: Header of the report.
        baselines: Table of the baselines, `results.to_baseline_table`.
        outcomes: What came of the hypotheses, of `declared`.
        exported: Size and latency of the pruned networks once exported.
        trainings: Number of networks trained, those that no arm chose included; by default the number of records.
        cells: Folder with the networks and forecasts of the cells; None leaves out what needs them.
    """
    page = render(
        results,
        records,
        plan=plan,
        datasets=datasets,
        about=about,
        baselines=baselines,
        outcomes=outcomes,
        exported=exported,
        trainings=trainings,
        cells=cells,
    )
    write_atomically(path, page)


def render(
    results: pd.DataFrame,
    records: Sequence[RunRecord],
    *,
    plan: Plan,
    datasets: Sequence[Dataset],
    about: About,
    baselines: pd.DataFrame | None = None,
    outcomes: Sequence[Declared] = (),
    exported: Sequence[Exported] = (),
    trainings: int | None = None,
    cells: Path | None = None,
) -> str:
    """Return the page as HTML; texts from data are escaped, and no script but the page's own may run.

    The arguments are those of `write_report`.
    """
    environment = Environment(
        loader=PackageLoader("synaptic_pruning.study", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "fixed": _fixed, "p": _p, "signed": _signed, "p_is": p_is}
    runs, left_out = paired(contestants(results))
    failed = results[results["status"] != "ok"]
    used = set(runs["dataset"])
    beside = results.iloc[:0] if baselines is None else baselines
    script = environment.get_template("sort.js").render()
    return environment.get_template("report.html.jinja").render(
        about=about,
        arm=ARM,
        plan=plan,
        datasets=datasets,
        readings=list(dict.fromkeys(d.reading for d in datasets if d.reading)),
        absent=[d.name for d in datasets if d.name not in used],
        counts={
            "runs": len(results),
            "trainings": trainings or len(records),
            "failed": len(failed),
            "left_out": left_out,
        },
        verdict=judge(runs, about.blocks),
        declared=outcomes,
        null_check=null_check(results, about.blocks),
        checks=checks(results, about.blocks),
        persistence=lost_to_persistence(runs),
        ridge=tables.lost_to(runs, beside, "ridge"),
        paper=plan.protocol == "paper",
        **(_evidence(runs, records, beside, plan, about, datasets, cells) if len(runs) else {"arms": []}),
        options=tables.options(results) if plan.tunes else [],
        unfinished=tables.unfinished(results),
        margin=MARGIN,
        legend=[{"name": n, "colour": colour(n), "dash": DASHES[n]} for n in plan.arms if n not in CHECKS],
        markers=dict(zip(plan.models, ("●", "■", "▲", "◆", "▼"), strict=False)),
        exported=[asdict(one) for one in exported],
        batches=BATCHES,
        runs=results.to_dict("records") if len(results) <= _MOST_ROWS else None,
        failed=failed.head(_MOST_ROWS).to_dict("records"),
        versions=versions(),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _evidence(
    runs: pd.DataFrame,
    records: Sequence[RunRecord],
    baselines: pd.DataFrame,
    plan: Plan,
    about: About,
    datasets: Sequence[Dataset],
    cells: Path | None,
) -> dict[str, Any]:
    """Return everything that needs at least one run in every arm."""
    table = block_means(runs, block_of=about.blocks)
    shown = choose_datasets(runs)
    names = set(runs["arm"])
    competing = [r for r in records if not {arm["name"] for arm in r["cell"]["arms"]} <= set(CHECKS)]
    largest = max((d for d in datasets if d.name in set(runs["dataset"])), key=lambda d: d.rows).name
    lost = losses(runs)
    return {
        "arms": tables.arms(runs, table, about.blocks),
        "errors": tables.errors(runs, baselines),
        "arm_names": list(dict.fromkeys(map(str, runs["arm"]))),
        "baselines": list(dict.fromkeys(baselines["arm"])),
        "baseline_skill": tables.baseline_skill(runs, baselines, about.blocks),
        "effects": tables.effects(runs, ARM, about.blocks),
        "judged": [found for name in JUDGED if (found := parts(runs, name, about.blocks, about.development))],
        "friedman": friedman_tests(runs, about.blocks),
        "by_series": by_series(runs, plan, cells, ARM, ("none", "dropout")) if cells and ARM in names else [],
        "shown": shown if len(shown) < runs["dataset"].nunique() else [],
        "largest": largest,
        "figures": draw_panels(runs, competing, about.blocks, shown, largest, cells),
        "costs": tables.costs(runs),
        "losses": lost.head(_MOST_ROWS).to_dict("records"),
        "cases": runs.groupby(CASE).ngroups,
        "over_lengths": vos2025_statistic(runs) if plan.protocol == "paper" else [],
        "over_lengths_note": PAPER_NOTE,
    }


def _number(value: Any, digits: int = 4) -> str:
    """Write significant digits, without an exponent where it can be avoided; an en dash for a missing value.

    Example:
        >>> _number(0.123456), _number(12345.678), _number(None), _number(17, 0), _number(88.0)
        ('0.1235', '12,346', '–', '17', '88.00')
    """
    if value is None or pd.isna(value):
        return "–"
    if digits == 0 or float(value) == 0:
        return f"{value:,.0f}"
    text = f"{value:#,.{digits}g}".rstrip(".")
    return f"{value:,.0f}" if "e+" in text or abs(value) >= 10**digits else text


def _fixed(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.3f}".replace("-", "−")


def _signed(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else signed(value)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
