"""pytorch-forecasting and GluonTS train with Lightning too, in its other namespace."""

from typing import Any

import pytest

pytest.importorskip("pytorch_forecasting")
pytest.importorskip("gluonts")

import lightning.pytorch as pl
import numpy as np
import pandas as pd
from gluonts.dataset.common import ListDataset
from gluonts.torch import DeepAREstimator
from pytorch_forecasting import RecurrentNetwork, TemporalFusionTransformer, TimeSeriesDataSet
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.integrations.lightning import SynapticPruning, find_pruner

pytestmark = [pytest.mark.hosts, pytest.mark.filterwarnings("ignore")]

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def _pruning(**arguments: Any) -> SynapticPruning:
    # Over in the first of three epochs, for GluonTS ships its best checkpoint, whichever that is.
    return SynapticPruning(sp.ToSparsity(sp.cubic(0.7, begin=0.05, end=0.3)), **arguments)


def _assert_sparse(network: nn.Module, pruner: sp.SynapticPruner) -> None:
    assert pruner.finished
    assert pruner.steps == pruner.total_steps
    assert pruner.sparsity() == pytest.approx(0.7, abs=2e-3)
    assert all((network.get_parameter(name)[~mask] == 0).all() for name, mask in pruner.masks().items())


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (RecurrentNetwork, {"hidden_size": 16}),
        (TemporalFusionTransformer, {"hidden_size": 8, "attention_head_size": 2}),
    ],
)
def test_pytorch_forecasting(kind: Any, sizes: dict[str, int]):
    values = np.random.default_rng(0).normal(size=160).cumsum().astype("float32")
    frame = pd.DataFrame({"t": np.tile(np.arange(80), 2), "series": np.repeat(["a", "b"], 80), "y": values})
    windows = TimeSeriesDataSet(
        frame,
        time_idx="t",
        target="y",
        group_ids=["series"],
        max_encoder_length=12,
        max_prediction_length=3,
        time_varying_unknown_reals=["y"],
    )
    network = kind.from_dataset(windows, learning_rate=0.01, **sizes)
    trainer = pl.Trainer(max_epochs=3, enable_checkpointing=False, callbacks=[_pruning()], **QUIET)
    trainer.fit(network, train_dataloaders=windows.to_dataloader(train=True, batch_size=16))
    _assert_sparse(network, find_pruner(trainer))


def _deep_ar(callback: SynapticPruning) -> DeepAREstimator:
    return DeepAREstimator(
        freq="D",
        prediction_length=3,
        context_length=12,
        hidden_size=16,
        num_batches_per_epoch=10,
        batch_size=8,
        trainer_kwargs={"max_epochs": 3, "callbacks": [callback], **QUIET},
    )


def _days() -> ListDataset:
    values = np.random.default_rng(0).normal(size=120).cumsum()
    return ListDataset([{"start": pd.Period("2020-01-01", freq="D"), "target": values}], freq="D")


def test_gluonts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # it writes checkpoints where it stands
    pruning = _pruning(total_steps=30)  # its loader has no length
    predictor = _deep_ar(pruning).train(_days())
    assert pruning.pruner is not None
    trained = {name.removeprefix("model."): mask for name, mask in pruning.pruner.masks().items()}
    assert pruning.pruner.finished
    assert pruning.pruner.sparsity() == pytest.approx(0.7, abs=2e-3)
    network = predictor.prediction_net
    shipped = {name.removeprefix("model."): p for name, p in network.named_parameters()}
    assert all((shipped[name][~mask] == 0).all() for name, mask in trained.items())
    assert np.isfinite(next(iter(predictor.predict(_days()))).mean).all()


def test_gluonts_does_not_tell_how_long_it_trains(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="the number of optimizer steps with total_steps="):
        _deep_ar(_pruning()).train(_days())
