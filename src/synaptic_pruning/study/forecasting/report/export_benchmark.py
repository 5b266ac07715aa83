"""Measure the best pruned networks before and after export: bytes, latency, error."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

from synaptic_pruning.study.algorithms import DEFAULT
from synaptic_pruning.study.engine import write_atomically
from synaptic_pruning.study.forecasting.cells import Cell, CellRecord
from synaptic_pruning.study.forecasting.results import answer_error
from synaptic_pruning.study.forecasting.run import build_network, forecast, make_cell_task
from synaptic_pruning.tasks.forecasting import Series

if TYPE_CHECKING:
    from synaptic_pruning.export import CompactReport

BATCHES = (1, 32)


@dataclass(frozen=True)
class Exported:
    """One network, before and after.

    Attributes:
        dataset: What it was trained on, with windows of ``length``.
        sparsity: Share of its prunable weights that are pruned, in [0, 1].
        bytes: Sizes of its plain safetensors file and of the packed one, lossless.
        milliseconds: For each of `BATCHES`, the time of one call on one thread, plain and compact, measured in turns.
        forms: For each of `BATCHES`, the form that `compact` chose.
        mae: Test error before and after, in the units of the data.
    """

    dataset: str
    model: str
    length: int
    sparsity: float
    bytes: Sequence[int]
    milliseconds: Sequence[Sequence[float]]
    forms: Sequence[str]
    mae: Sequence[float]


def exported(
    cells: Sequence[Cell], records: Sequence[CellRecord], data: Mapping[str, Series], folder: Path
) -> list[Exported]:
    """Export the best pruned network of every model and measure it.

    It is the one with the smallest validation error on the data set of the most rows: one network a model, since the
    error does not change and the latency hardly depends on the data.

    Args:
        cells: The cells that were run.
        records: What came of them, in the same order.
        data: What the cells were trained on, by `Cell.data`.
        folder: Where the networks of the cells lie, and where each measurement is kept for the next call.
    """
    largest = max(data.values(), key=lambda one: len(one.values)).name
    pruned = [
        (cell, record)
        for cell, record in zip(cells, records, strict=True)
        if cell.option.algorithm == DEFAULT and cell.dataset == largest and record["status"] == "ok"
    ]
    best = [
        min((pair for pair in pruned if pair[0].model == model), key=lambda pair: answer_error(pair[1], 0))
        for model in _in_order(cell.model for cell, _ in pruned)
    ]
    return [_export_once(cell, record, data[cell.data], folder) for cell, record in best]


def _export_once(cell: Cell, record: CellRecord, series: Series, folder: Path) -> Exported:
    kept = folder / f"{cell.hash}.export"
    if not kept.exists():
        write_atomically(kept, json.dumps(asdict(_export(cell, record, series, folder))))
    return Exported(**json.loads(kept.read_text()))


def _export(cell: Cell, record: CellRecord, series: Series, folder: Path) -> Exported:
    import synaptic_pruning as sp
    from synaptic_pruning.tasks.forecasting import score

    task, file = make_cell_task(cell, series), folder / f"{cell.hash}.safetensors"
    network = build_network(cell, task)
    sp.export.load(network, file)
    network.eval()
    with TemporaryDirectory() as scratch:
        packed = Path(scratch, "packed.safetensors")
        sp.export.save(network, packed)
        sizes = file.stat().st_size, packed.stat().st_size
    compact = [sp.export.compact(network, task.test.inputs[:batch], threads=1) for batch in BATCHES]
    reports = [cast("CompactReport", small.report) for small in compact]
    forecasts = forecast(compact[-1], task, task.test, 0, cell.seed)
    return Exported(
        dataset=cell.dataset,
        model=cell.model,
        length=cell.length,
        sparsity=record["sparsity"],
        bytes=sizes,
        milliseconds=tuple((report.before * 1e3, report.after * 1e3) for report in reports),
        forms=tuple(report.form for report in reports),
        mae=(record["answers"]["0"]["mae"], score(task, forecasts)["mae"]),
    )


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
