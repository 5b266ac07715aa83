"""The cells of a plan in which nothing is chosen, or of the first stage of one."""

from collections.abc import Sequence

from synaptic_pruning.study.forecasting.cells import Cell
from synaptic_pruning.study.forecasting.plan import Plan, cases, expand, expand_chosen
from synaptic_pruning.study.forecasting.results import Chosen, only_options
from synaptic_pruning.tasks.forecasting.data.series import Series


def taken(plan: Plan, series: Sequence[Series]) -> Chosen:
    return only_options(plan, [case for case, _ in cases(plan, series)])


def planned(plan: Plan, series: Sequence[Series]) -> list[Cell]:
    compared = cases(plan, series)
    return expand(plan, compared) or expand_chosen(plan, compared, taken(plan, series))
