"""Plots of the reports, by subject; each function returns panels with inline SVG."""

from synaptic_pruning.study.plots.comparisons import comparison_map, effects_plot
from synaptic_pruning.study.plots.costs import costs_by_length, costs_by_model, error_by_weights
from synaptic_pruning.study.plots.errors import heat_map, rank_diagram, ranks
from synaptic_pruning.study.plots.forecasts import errors_by_step, forecasts
from synaptic_pruning.study.plots.growth import growth
from synaptic_pruning.study.plots.pruning import error_by_sparsity, masks, sparsity_by_layer
from synaptic_pruning.study.plots.style import (
    COLOURS,
    DASHES,
    FAINT,
    INK,
    Panel,
    colour,
    line,
    new_figure,
    styled,
    to_svg,
)
from synaptic_pruning.study.plots.training import training_curves

__all__ = [
    "COLOURS",
    "DASHES",
    "FAINT",
    "INK",
    "Panel",
    "colour",
    "comparison_map",
    "costs_by_length",
    "costs_by_model",
    "effects_plot",
    "error_by_sparsity",
    "error_by_weights",
    "errors_by_step",
    "forecasts",
    "growth",
    "heat_map",
    "line",
    "masks",
    "new_figure",
    "rank_diagram",
    "ranks",
    "sparsity_by_layer",
    "styled",
    "to_svg",
    "training_curves",
]
