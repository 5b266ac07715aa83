"""The command line, the only place that imports typer: compare, study, datasets, inspect and export."""

from synaptic_pruning.cli.compare import app as app
