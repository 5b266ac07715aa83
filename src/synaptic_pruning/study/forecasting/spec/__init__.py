"""Specs of studies: reading a TOML file, and those that ship with the package."""

from synaptic_pruning.study.forecasting.spec.reading import Spec, presets, read_spec

__all__ = ["Spec", "presets", "read_spec"]
