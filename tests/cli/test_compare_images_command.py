"""The command for images refuses in one sentence, before any training; its runs are tested with the study."""

import pytest
from typer.testing import CliRunner

from synaptic_pruning.cli import app
from synaptic_pruning.study.classification.arms import ARMS


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["data.csv"], ["data.csv", "CSV", "--data", "synaptic-pruning compare;"]),
        (["--target", "y"], ["--target", "synaptic-pruning compare."]),
        (["--horizon=1"], ["--horizon", "synaptic-pruning compare."]),
        (["--data", "letters"], ["'letters'", "digits, mnist, fashion-mnist, cifar10"]),
        (["--data-dir", "here"], ["--data-dir here", "digits", "leave it out"]),
        (["--data", "mnist", "--data-dir", "nowhere"], ["nowhere", "train-images"]),
        (["--models", "rnn"], ["--models", "'rnn'", "mlp, cnn, vgg"]),
        (["--arms", "none,mc-dropout"], ["--arms", "'mc-dropout'", ", ".join(ARMS)]),
        (["--arms", ""], ["--arms is empty"]),
    ],
)
def test_bad_options_are_refused_in_one_sentence(tmp_path, words, fragments):
    result = CliRunner().invoke(app, ["compare-images", "--out", str(tmp_path / "out"), *words])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    for fragment in fragments:
        assert fragment in result.stderr
    assert not (tmp_path / "out" / "cells").exists()
