"""A forecaster to keep: chosen by validation, trained on all rows, in a folder that holds data and no code."""

from synaptic_pruning.study.forecaster.forecaster import Forecaster
from synaptic_pruning.study.forecaster.inputs import extend, with_inputs
from synaptic_pruning.study.forecaster.intervals import coverage, half_widths
from synaptic_pruning.study.forecaster.picture import draw_forecast

__all__ = ["Forecaster", "coverage", "draw_forecast", "extend", "half_widths", "with_inputs"]
