"""darts trains with Lightning: the callback goes into ``pl_trainer_kwargs``."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("darts")

import numpy as np
import pandas as pd
from darts import TimeSeries
from darts.models import BlockRNNModel, RNNModel, TCNModel
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.integrations.lightning import SynapticPruning, find_pruner

pytestmark = [pytest.mark.hosts, pytest.mark.filterwarnings("ignore")]

MODELS: dict[str, Any] = {
    "RNNModel": (RNNModel, {"model": "LSTM", "hidden_dim": 16, "training_length": 18}),
    "BlockRNNModel": (BlockRNNModel, {"model": "GRU", "hidden_dim": 16, "output_chunk_length": 2}),
    "TCNModel": (TCNModel, {"output_chunk_length": 2, "num_filters": 8}),
}


def _series() -> TimeSeries:
    values = np.random.default_rng(0).normal(size=80).cumsum().astype("float32")
    return TimeSeries.from_times_and_values(pd.RangeIndex(80), values)


def _model(name: str = "RNNModel", callback: SynapticPruning | None = None) -> Any:
    kind, sizes = MODELS[name]
    rule = sp.ToSparsity(sp.cubic(0.7, begin=0.05, end=0.5))
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return kind(
        input_chunk_length=12,
        n_epochs=4,
        batch_size=8,
        random_state=0,
        pl_trainer_kwargs={**quiet, "callbacks": [callback or SynapticPruning(rule)]},
        **sizes,
    )


def _zeros(model: Any, masks: dict[str, Any]) -> float:
    network: nn.Module = model.model
    weights = [p for name, p in network.named_parameters() if name in masks]
    assert weights
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


@pytest.mark.parametrize("name", MODELS)
def test_one_line_attaches_it(name: str):
    model = _model(name)
    model.fit(_series())
    pruner = find_pruner(model.trainer)
    assert pruner.finished
    assert pruner.steps == pruner.total_steps
    assert pruner.sparsity() == pytest.approx(0.7, abs=2e-3)
    assert _zeros(model, pruner.masks()) == pytest.approx(pruner.sparsity(), abs=1e-6)
    assert np.isfinite(model.predict(3, series=_series()).values()).all()


def test_a_second_fit_goes_on_with_the_same_masks():
    model = _model()
    model.fit(_series())
    masks = find_pruner(model.trainer).masks()
    model.fit(_series(), epochs=8)
    again = find_pruner(model.trainer).masks()
    assert all((again[name] == mask).all() for name, mask in masks.items())
    assert _zeros(model, masks) == pytest.approx(0.7, abs=2e-3)


def test_saved_and_loaded_weights_keep_their_zeros(tmp_path: Path):
    model = _model()
    model.fit(_series())
    masks = find_pruner(model.trainer).masks()
    before = model.predict(3, series=_series()).values()
    model.save(str(tmp_path / "model.pt"))
    loaded = RNNModel.load(str(tmp_path / "model.pt"), weights_only=False)  # its checkpoints name their optimizer
    assert _zeros(loaded, masks) == pytest.approx(0.7, abs=2e-3)
    np.testing.assert_allclose(loaded.predict(3, series=_series()).values(), before, rtol=1e-6)


def test_backtests_that_train_again_stay_sparse():
    callback = SynapticPruning(sp.ToSparsity(sp.cubic(0.7, begin=0.05, end=0.5)))
    model = _model(callback=callback)
    model.fit(_series()[:60])
    past = model.historical_forecasts(_series(), start=60, stride=10, retrain=True, verbose=False)
    assert np.isfinite(past.values()).all()
    assert find_pruner(model.trainer).sparsity() == pytest.approx(0.7, abs=2e-3)
