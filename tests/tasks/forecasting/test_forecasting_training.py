"""The training loop: fair, deterministic, gated by the pruner, and never a crash on numbers gone wild."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.core.summary import Row, Summary
from synaptic_pruning.tasks.forecasting import Series, build_model, make_task, predict, read_csv, score, train

SHARED = Path(os.environ.get("SYNAPTIC_PRUNING_SHARED", Path(__file__).parents[3] / ".." / "shared"))


def wave(rows=400, missing=0.0, horizon=1, length=8, predict="delta"):
    generator = np.random.default_rng(0)
    values = np.sin(np.arange(rows) / 3) + 0.1 * generator.standard_normal(rows)
    values[generator.random(rows) < missing] = np.nan
    series = Series("wave", "y", ("y",), np.arange(rows), values[:, None], 19)
    return make_task(series, length=length, horizon=horizon, predict=predict)


def network(seed=0, dropout=0.0, horizon=1):
    torch.manual_seed(seed)
    return build_model("rnn", channels=1, length=8, horizon=horizon, dropout=dropout)


class FakePruner:
    """Counts optimizer steps; its ramp is finished after some of them."""

    def __init__(self, model, optimizer, total_steps, finish):
        self.steps, self.finish, self.total_steps = 0, finish, total_steps
        optimizer.register_step_post_hook(self.count)

    def count(self, *_):
        self.steps += 1

    @property
    def ramp_finished(self):
        return self.steps >= self.finish * self.total_steps

    def sparsity(self):
        return min(1.0, self.steps / (self.finish * self.total_steps)) * 0.9

    def summary(self):
        alive = round(1000 * (1 - self.sparsity()))
        return Summary((Row("w", 1000, alive, 0),), Row("total", 1000, alive, 0))


def fake(finish, made=None):
    def attach(model, optimizer, total_steps):
        pruner = FakePruner(model, optimizer, total_steps, finish)
        if made is not None:
            made.append(pruner)
        return pruner

    return attach


def test_training_beats_persistence_and_leaves_the_best_weights():
    task, model = wave(), network()
    run = train(model, task, epochs=15, seed=0)
    assert run.status == "ok"
    assert len(run.history) == 15
    assert run.steps == 15 * math.ceil(len(task.train) / 64)
    maes = [row["validation_mae"] for row in run.history]
    assert run.best_epoch == 1 + int(np.argmin(maes))
    assert not model.training
    assert all(torch.equal(value, run.best_state[name]) for name, value in model.state_dict().items())
    forecasts = task.to_units(predict(model, task.validation), task.validation)
    assert np.abs(forecasts - task.truth(task.validation)).mean() == pytest.approx(min(maes))
    assert score(task, task.to_units(predict(model, task.test), task.test))["skill"] > 0.2


def test_training_equals_a_plain_loop_over_the_same_batches():
    task, model, plain = wave(missing=0.1, horizon=2), network(horizon=2), network(horizon=2)
    run = train(model, task, epochs=2, seed=3)
    known = (~task.train.targets.isnan()).any(1).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(3)
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3)
    for _ in range(2):
        order = known[torch.randperm(len(known), generator=generator)]
        for start in range(0, len(order), 64):
            optimizer.zero_grad()
            squares = []
            for row in order[start : start + 64].tolist():
                error = plain(task.train.inputs[row : row + 1])[0] - task.train.targets[row]
                squares += [one.square() for one in error if not one.isnan()]
            torch.stack(squares).mean().backward()
            optimizer.step()
    final = run.best_state
    assert run.best_epoch == 2
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(final[name], value, rtol=1e-4, atol=1e-5)


def test_a_seed_fixes_everything_and_leaves_the_global_generator_alone():
    states = []
    for _ in range(2):
        model = network(dropout=0.3)
        torch.manual_seed(len(states))
        before = torch.get_rng_state()
        run = train(model, wave(), epochs=2, seed=5)
        assert torch.equal(before, torch.get_rng_state())
        states.append(run.best_state)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    other = train(network(dropout=0.3), wave(), epochs=2, seed=6).best_state
    assert not torch.equal(states[0]["head.weight"], other["head.weight"])


def test_data_order_is_the_same_with_and_without_dropout_and_pruner():
    orders = []
    for dropout, attach in ((0.0, None), (0.5, None), (0.0, fake(0.5))):
        model, seen = network(dropout=dropout), []
        handle = model.register_forward_pre_hook(
            lambda module, args, seen=seen: seen.append(args[0].clone()) if module.training else None
        )
        train(model, wave(), epochs=2, seed=0, attach=attach)
        handle.remove()
        orders.append(torch.cat(seen))
    assert torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0], orders[2])


def test_the_best_epoch_waits_for_the_pruner():
    made = []
    task = wave()
    run = train(network(), task, epochs=10, seed=0, attach=fake(0.75, made))
    assert made[0].total_steps == run.steps
    finished = [row["epoch"] for row in run.history if row["sparsity"] == 0.9]
    assert finished == [8, 9, 10]
    maes = {row["epoch"]: row["validation_mae"] for row in run.history if row["epoch"] in finished}
    assert run.best_epoch == min(maes, key=maes.get)
    assert run.sparsity == 0.9
    assert run.layers["w"] == pytest.approx([row["sparsity"] for row in run.history], abs=1e-3)


def test_every_epoch_may_be_the_best_where_the_sparsity_is_there_from_the_start():
    def attach(model, optimizer, total_steps):
        return sp.SynapticPruner(model, optimizer, sp.RigL(0.7, end=0.9), total_steps=total_steps)

    # Once the rate is far too high nothing gets better after the first epoch, long before the last swap.
    run = train(network(), wave(), epochs=8, seed=0, attach=attach, learning_rate=0.3)
    maes = {row["epoch"]: row["validation_mae"] for row in run.history}
    assert {round(row["sparsity"], 2) for row in run.history} == {0.7}
    assert run.best_epoch == min(maes, key=maes.get) < 0.9 * 8


def test_patience_waits_for_the_pruner_and_then_stops():
    class Stubborn(nn.Module):  # never improves: one weight without a gradient that matters
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, inputs):
            return 0 * self.weight + torch.zeros(len(inputs), 1)

    assert len(train(Stubborn(), wave(), epochs=20, seed=0, patience=3).history) == 1 + 3
    run = train(Stubborn(), wave(), epochs=20, seed=0, patience=3, attach=fake(0.5))
    assert len(run.history) == 10 + 3
    assert run.best_epoch == 10


def test_a_pruner_that_never_finishes_is_told():
    run = train(network(), wave(), epochs=3, seed=0, attach=fake(2.0))
    assert run.status == "pruner-unfinished"
    assert "end its schedule earlier" in run.reason
    assert run.best_epoch == 3
    assert run.sparsity == pytest.approx(0.45)


def test_masks_that_still_change_at_the_final_sparsity_are_not_unfinished():
    def attach(model, optimizer, total_steps):
        return sp.SynapticPruner(model, optimizer, sp.RigL(0.7), total_steps=10 * total_steps)

    run = train(network(), wave(), epochs=3, seed=0, attach=attach)
    assert (run.status, run.reason) == ("ok", "")
    assert run.sparsity == pytest.approx(0.7, abs=0.01)
    assert run.best_epoch > 0


def test_every_epoch_tells_what_was_grown_and_pruned_and_how_old_the_rest_is():
    task, model, seen = wave(), network(), []

    class Watched(sp.SynapticPruner):
        def summary(self):  # asked once an epoch: the masks themselves tell who is new
            seen.append({name: mask.clone() for name, mask in self.masks().items()})
            return super().summary()

    def attach(model, optimizer, total_steps):
        return Watched(model, optimizer, sp.SET(0.5, end=1.0), total_steps=total_steps, every=steps)

    steps = math.ceil(len(task.train) / 64)  # an event an epoch
    run = train(model, task, epochs=4, seed=0, attach=attach)
    for epoch, (before, after, row) in enumerate(zip(seen, seen[1:], run.history[1:], strict=False), 2):
        new = {name: after[name] & ~before[name] for name in after}
        earlier = run.history[epoch - 2]
        assert row["grown"] - earlier["grown"] == sum(int(mask.sum()) for mask in new.values())
        assert row["pruned"] - earlier["pruned"] == row["grown"] - earlier["grown"]  # SET keeps the sparsity
        assert row["alive"] == sum(int(mask.sum()) for mask in after.values())
    assert all(0 < row["age"] <= row["epoch"] for row in run.history)
    assert run.history[-1]["grown"] > 0
    assert run.history[-1]["age"] < 4  # the new are younger


def test_a_loss_that_is_not_finite_ends_training_with_usable_weights():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run = train(model, wave(), epochs=5, seed=0, learning_rate=1e30)
    assert run.status == "nan-loss"
    assert "epoch 1" in run.reason
    assert run.best_epoch == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert math.isnan(run.history[-1]["validation_mae"])


def test_a_pruner_that_refuses_broken_weights_ends_training_and_other_errors_pass():
    def attach(message, broken):
        def attach(model, optimizer, total_steps):
            def refuse(*_):
                if broken:
                    model.head.weight.data.fill_(math.nan)
                raise ValueError(message)

            optimizer.register_step_post_hook(refuse)
            return FakePruner(model, optimizer, total_steps, 0.5)

        return attach

    run = train(network(), wave(), epochs=2, seed=0, attach=attach("NaN in head.weight", True))
    assert run.status == "nan-loss"
    with pytest.raises(ValueError, match="something else"):
        train(network(), wave(), epochs=2, seed=0, attach=attach("something else", False))


def test_windows_without_a_known_target_are_passed_over():
    task = wave(missing=0.2)
    run = train(network(), task, epochs=2, seed=0)
    assert run.status == "ok"
    assert all(value.isfinite().all() for value in run.best_state.values())
    known = int((~task.train.targets.isnan()).sum())
    assert run.steps == 2 * math.ceil(known / 64)


def test_predict_keeps_the_mode_and_does_not_depend_on_the_batch_size():
    task, model = wave(), network(dropout=0.5).eval()
    torch.testing.assert_close(predict(model, task.test, 7), predict(model, task.test))
    assert not predict(model, task.test).requires_grad
    model.train()
    assert not torch.equal(predict(model, task.test), predict(model, task.test))
    assert model.training


@pytest.mark.parametrize("options", [{"epochs": 0}, {"epochs": 1, "batch_size": 0}, {"epochs": 1, "patience": 0}])
def test_bad_arguments(options):
    with pytest.raises(ValueError, match="must be at least 1"):
        train(network(), wave(), seed=0, **options)


def test_a_model_for_another_target_form_is_refused():
    model = build_model("patchtst", channels=1, length=8, horizon=1, predict="delta")
    with pytest.raises(ValueError, match=r"pass predict=task.predict"):
        train(model, wave(predict="level"), epochs=1, seed=0)


def test_real_air_quality_is_forecast_better_than_by_persistence():
    path = SHARED / "data" / "AirQualityUCI.csv"
    if not path.exists():
        pytest.skip(f"needs {path}")
    options = {"time": "Date,Time", "separator": ";", "decimal": ",", "missing": [-200]}
    (series,) = read_csv(path, "CO(GT)", **options)
    task = make_task(series, length=14)
    torch.manual_seed(0)
    model = build_model("lstm", channels=13, length=14, horizon=1)
    run = train(model, task, epochs=4, seed=0)
    assert run.status == "ok"
    assert score(task, task.to_units(predict(model, task.test), task.test))["skill"] > 0.05
