"""Write `report.html`: one self-contained page with the answer first, then the evidence, losses included."""

import base64
import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from synaptic_pruning.study.engine import About, versions, write_atomically
from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.report import tables
from synaptic_pruning.study.forecasting.report.by_series import by_series
from synaptic_pruning.study.forecasting.report.declared import Declared, null_check
from synaptic_pruning.study.forecasting.report.evidence import JUDGED, checks, friedman_tests, parts
from synaptic_pruning.study.forecasting.report.export_benchmark import BATCHES, Exported
from synaptic_pruning.study.forecasting.report.panels import choose_datasets, draw_panels, draw_regime
from synaptic_pruning.study.forecasting.report.verdict import (
    ARM,
    CHECKS,
    Verdict,
    contestants,
    judge,
    losses,
    lost_to_persistence,
    p_is,
    signed,
)
from synaptic_pruning.study.forecasting.results import RunRecord, network_files
from synaptic_pruning.study.plots import DASHES, colour
from synaptic_pruning.study.statistics import (
    CASE,
    MARGIN,
    PAPER_NOTE,
    block_means,
    paired,
    several_of,
    vos2025_statistic,
)
from synaptic_pruning.study.templates import environment
from synaptic_pruning.tasks.forecasting import DATASETS, Times

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
        times: Times of its rows; pictures of forecasts count steps without them.
    """

    name: str
    target: str
    rows: int
    channels: int
    season: int
    digest: str
    reading: str = ""
    times: Times | None = field(default=None, compare=False, repr=False)


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
    templates = environment(number=_number, fixed=_fixed, p=_p, signed=_signed, p_is=p_is, headings=_headings)
    runs, left_out = paired(contestants(results))
    failed = results[results["status"] != "ok"]
    used = set(runs["dataset"])
    beside = results.iloc[:0] if baselines is None else baselines
    script = templates.get_template("sort.js").render()
    return templates.get_template("report.html.jinja").render(
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
        verdicts=_verdicts(runs, about),
        declared=outcomes,
        null_check=null_check(results, about.blocks),
        checks=checks(results, about.blocks),
        persistence=lost_to_persistence(runs),
        ridge=tables.lost_to(runs, beside, "ridge"),
        several=several_of(results),
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
    shown = choose_datasets(runs)
    names = set(runs["arm"])
    competing = [r for r in records if not {arm["name"] for arm in r["cell"]["arms"]} <= set(CHECKS)]
    largest = max((d for d in datasets if d.name in set(runs["dataset"])), key=lambda d: d.rows).name
    lost = losses(runs)
    files = network_files(records)
    pruned = [name for name, run in files.items() if run["cell"]["option"]["algorithm"]]
    network = next(iter([*pruned, *files]), "")
    registered = {d.name for d in datasets if d.name in DATASETS and not d.reading}  # a file may have such a name too
    dated = {} if plan.protocol == "paper" else {d.name: d.times for d in datasets if d.times is not None}
    axes: dict[str, dict[str, Any]] = {"times": dated, "targets": {d.name: d.target for d in datasets}}
    several = runs["regime"].nunique() > 1
    regimes = [
        _regime(str(regime), part, baselines[baselines["regime"] == regime], about, several)
        for regime, part in runs.groupby("regime", sort=False)
    ]
    return {
        "regimes": regimes,
        "arms": regimes[0]["arms"],
        "errors": tables.errors(runs, baselines),
        "arm_names": list(dict.fromkeys(map(str, runs["arm"]))),
        "baselines": list(dict.fromkeys(baselines["arm"])),
        "effects": tables.effects(runs, ARM, about.blocks),
        "by_series": by_series(runs, plan, cells, ARM, ("none", "dropout")) if cells and ARM in names else [],
        "first_case": f"{runs['regime'].iloc[0]}, horizon {runs['horizon'].iloc[0]}" if several_of(runs) else "",
        "shown": shown if len(shown) < runs["dataset"].nunique() else [],
        "largest": largest,
        "figures": draw_panels(runs, competing, plan, shown, largest, axes, cells),
        "costs": tables.costs(runs),
        "network": network,
        "registered": bool(network) and files[network]["cell"]["dataset"] in registered,
        "quoted": shlex.quote(f"networks/{network}"),
        "losses": lost.head(_MOST_ROWS).to_dict("records"),
        "cases": runs.groupby(CASE).ngroups,
        "over_lengths": vos2025_statistic(runs) if plan.protocol == "paper" else [],
        "over_lengths_note": PAPER_NOTE,
    }


def _regime(name: str, runs: pd.DataFrame, baselines: pd.DataFrame, about: About, several: bool) -> dict[str, Any]:
    """Return what compares the arms in one regime; its `title` is empty where it is the only one."""
    table = block_means(runs, block_of=about.blocks)
    title = name if several else ""
    return {
        "name": name,
        "title": title,
        "blocks": len(table),
        "arms": tables.arms(runs, table, about.blocks),
        "baseline_skill": tables.baseline_skill(runs, baselines, about.blocks),
        "judged": [found for arm in JUDGED if (found := parts(runs, arm, about.blocks, about.development))],
        "friedman": friedman_tests(runs, about.blocks),
        "figures": draw_regime(runs, table, about.blocks, title),
    }


def _verdicts(runs: pd.DataFrame, about: About) -> list[tuple[str, Verdict]]:
    """Return the name of every regime, "" where there is but one, and the verdict in it."""
    if runs["regime"].nunique() < 2:
        return [("", judge(runs, about.blocks))]
    return [(str(regime), judge(part, about.blocks)) for regime, part in runs.groupby("regime", sort=False)]


def _headings(html: str) -> list[tuple[str, str]]:
    """Return id and text of every section of a page.

    Example:
        >>> _headings('<h2 id="arms">The arms</h2><h2>Unnamed</h2>')
        [('arms', 'The arms')]
    """
    return re.findall(r'<h2 id="([^"]+)">([^<]+)</h2>', html)


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
    return "–" if value is None or pd.isna(value) else f"{round(value, 3) + 0:.3f}".replace("-", "−")


def _signed(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else signed(value)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
