from typer.testing import CliRunner

from synaptic_pruning import __version__
from synaptic_pruning.cli import app


def test_the_version_is_told():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"synaptic-pruning {__version__}\n")
