"""NeuralForecast copies models with their callbacks and trains them again and again: the masks survive all of it."""

import copy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("neuralforecast")

import numpy as np
import pandas as pd
import torch
from neuralforecast import NeuralForecast
from neuralforecast.auto import AutoLSTM
from neuralforecast.models import GRU, LSTM, NHITS, RNN, TFT, PatchTST

import synaptic_pruning as sp
from synaptic_pruning.integrations.lightning import EarlyStoppingAfterRamp, SynapticPruning, find_pruner

pytestmark = [pytest.mark.hosts, pytest.mark.filterwarnings("ignore")]

STEPS = 24
QUIET: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
COMMON: dict[str, Any] = {"h": 4, "input_size": 12, "max_steps": STEPS, "accelerator": "cpu", **QUIET}
RECURRENT = {"encoder_hidden_size": 16, "decoder_hidden_size": 16, "scaler_type": "standard"}
MODELS: dict[str, Any] = {
    "LSTM": (LSTM, RECURRENT),
    "RNN": (RNN, RECURRENT),
    "GRU": (GRU, RECURRENT),
    "PatchTST": (PatchTST, {"hidden_size": 16, "n_heads": 2, "patch_len": 4, "stride": 4, "linear_hidden_size": 16}),
    "NHITS": (NHITS, {"mlp_units": [[16, 16]] * 3}),
    "TFT": (TFT, {"hidden_size": 16}),
}


def _frame(length: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    days = pd.date_range("2020-01-01", periods=length)
    parts = [pd.DataFrame({"unique_id": n, "ds": days, "y": rng.normal(size=length).cumsum()}) for n in ("a", "b", "c")]
    return pd.concat(parts, ignore_index=True)


def _forecaster(name: str = "LSTM", **arguments: Any) -> NeuralForecast:
    model, sizes = MODELS[name]
    rule = sp.ToSparsity(sp.cubic(0.7, begin=0.05, end=0.5))
    arguments = {"callbacks": [SynapticPruning(rule)], **COMMON, **sizes, **arguments}
    return NeuralForecast(models=[model(**arguments)], freq="D")


def _zeros(model: Any, masks: dict[str, torch.Tensor]) -> float:
    weights = [p for name, p in model.named_parameters() if name in masks]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


@pytest.mark.parametrize("name", MODELS)
def test_every_model(name: str):
    nf = _forecaster(name)
    nf.fit(_frame())
    pruner = find_pruner(nf.models[0])
    assert pruner.steps == pruner.total_steps == STEPS
    assert pruner.finished
    assert pruner.sparsity() == pytest.approx(0.7, abs=1e-3)
    assert _zeros(nf.models[0], pruner.masks()) == pytest.approx(pruner.sparsity(), abs=1e-3)
    before = pruner.masks()
    assert np.isfinite(nf.predict()[name]).all()
    assert _zeros(nf.models[0], before) == pytest.approx(0.7, abs=1e-3)


def test_a_second_fit_goes_on_with_the_same_masks():
    nf = _forecaster()
    nf.fit(_frame())
    first = find_pruner(nf.models[0]).masks()
    nf.fit(_frame(70))
    again = find_pruner(nf.models[0])
    assert again.finished
    assert all(torch.equal(mask, first[name]) for name, mask in again.masks().items())
    assert _zeros(nf.models[0], first) == pytest.approx(0.7, abs=1e-3)


def test_a_fit_from_new_weights_starts_dense():
    nf = _forecaster()
    nf.fit(_frame())
    first = find_pruner(nf.models[0]).masks()
    nf.fit(_frame(70), use_init_models=True)
    pruner = find_pruner(nf.models[0])
    assert pruner.sparsity() == pytest.approx(0.7, abs=1e-3)
    assert pruner.masks().keys() == first.keys()


def test_cross_validation_that_fits_again_stays_sparse():
    nf = _forecaster()
    frame = nf.cross_validation(_frame(), n_windows=3, refit=True)
    assert len(frame) == 3 * 3 * 4
    assert np.isfinite(frame["LSTM"]).all()
    pruner = find_pruner(nf.models[0])
    assert pruner.finished
    assert _zeros(nf.models[0], pruner.masks()) == pytest.approx(0.7, abs=1e-3)


def test_saved_and_loaded_weights_keep_their_zeros(tmp_path: Path):
    nf = _forecaster()
    nf.fit(_frame())
    masks = find_pruner(nf.models[0]).masks()
    nf.save(str(tmp_path), save_dataset=True, overwrite=True)
    loaded = NeuralForecast.load(str(tmp_path))
    assert _zeros(loaded.models[0], masks) == pytest.approx(0.7, abs=1e-3)
    pd.testing.assert_frame_equal(loaded.predict(), nf.predict())
    with pytest.raises(ValueError, match="has no SynapticPruning callback"):
        find_pruner(loaded.models[0])


def test_a_copy_of_a_fitted_forecaster_goes_on_too():
    nf = _forecaster()
    nf.fit(_frame())
    masks = find_pruner(nf.models[0]).masks()
    other = copy.deepcopy(nf)
    other.fit(_frame(70))
    assert all(torch.equal(mask, masks[name]) for name, mask in find_pruner(other.models[0]).masks().items())


def test_early_stopping_shares_no_list():
    nf = _forecaster(early_stop_patience_steps=50, val_check_steps=8)
    nf.fit(_frame(), val_size=8)
    assert find_pruner(nf.models[0]).finished


def test_early_stopping_waits_for_the_ramp():
    class Worse(EarlyStoppingAfterRamp):
        """Sees a loss that grows from check to check."""

        checks = 0

        def _evaluate_stopping_criteria(self, current: torch.Tensor) -> Any:
            self.checks += 1
            return super()._evaluate_stopping_criteria(torch.tensor(float(self.checks)))

    rule = sp.ToSparsity(sp.cubic(0.7, begin=0.05, end=0.5))
    nf = _forecaster(callbacks=[SynapticPruning(rule), Worse("ptl/val_loss", patience=1)], val_check_steps=4)
    nf.fit(_frame(), val_size=8)
    pruner = find_pruner(nf.models[0])
    assert pruner.finished
    assert pruner.steps == 16  # the ramp ends at 12, whose check counts as the first


def test_automatic_choice_of_settings():
    rules = []

    def config(trial: Any) -> dict[str, Any]:
        callback = SynapticPruning(sp.ToSparsity(sp.cubic(0.7, end=0.5)))
        rules.append(callback)
        units = trial.suggest_categorical("encoder_hidden_size", [8, 16])
        settings = {**COMMON, **RECURRENT, "encoder_hidden_size": units, "callbacks": [callback]}
        settings.pop("h")
        return settings

    nf = NeuralForecast(models=[AutoLSTM(h=4, config=config, backend="optuna", num_samples=2)], freq="D")
    nf.fit(_frame(), val_size=8)
    pruner = find_pruner(nf.models[0].model)
    assert len(rules) >= 2
    assert pruner.finished
    assert _zeros(nf.models[0].model, pruner.masks()) == pytest.approx(0.7, abs=1e-3)
