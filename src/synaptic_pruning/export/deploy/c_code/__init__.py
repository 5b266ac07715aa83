"""Networks as C source for machines without Python, down to microcontrollers."""

from synaptic_pruning.export.deploy.c_code.export import CReport, check_c_path, to_c

__all__ = ["CReport", "check_c_path", "to_c"]
