from pathlib import Path

import pytest
import torch
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.tasks import classification as images
from synaptic_pruning.tasks.classification import DATASETS, ClassificationTask, DataError, Labelled


@pytest.fixture(scope="module")
def digits() -> ClassificationTask:
    return images.make_task("digits")


def test_parts_are_disjoint_and_scaled_by_the_training_part_alone(digits):
    assert [len(part) for part in (digits.train, digits.validation, digits.test)] == [1198, 239, 360]
    assert digits.train.images.std() == pytest.approx(1, rel=1e-6)
    assert digits.validation.images.std() != pytest.approx(1, rel=1e-4)
    assert digits.train.images.mean(0).abs().max() < 1e-5 < digits.validation.images.mean(0).abs().max()
    first = digits.train.images[:1].double()
    for part in (digits.train, digits.validation, digits.test):  # of all alike: differences are whole numbers of grey
        grey = (part.images.double() - first) / (digits.train.images[:, 0, 3, 3].unique().diff().min().double())
        assert (grey - grey.round()).abs().max() < 1e-3
    rows = {part: {tuple(row.flatten().tolist()) for row in getattr(digits, part).images} for part in
            ("train", "validation", "test")}  # fmt: skip
    from sklearn.datasets import load_digits

    unique = len({tuple(row) for row in load_digits().data})
    assert sum(map(len, rows.values())) == unique == 1797


def test_pixels_that_never_change_are_silent(digits):
    from sklearn.datasets import load_digits

    same = torch.as_tensor(load_digits().images).std(0) == 0
    assert same.any()
    for part in (digits.train, digits.validation, digits.test):
        assert (part.images[:, 0, same] == 0).all()


def test_readers_feed_tasks(tmp_path: Path):
    records = torch.zeros(20, 3073, dtype=torch.uint8)
    records[:, 0] = torch.arange(20) % 10
    records[:, 1:] = torch.arange(20)[:, None]
    (tmp_path / "cifar10").mkdir()
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        (tmp_path / "cifar10" / f"{name}.bin").write_bytes(records.numpy().tobytes())
    task = images.make_task("cifar10", tmp_path, validation=0.25)
    assert task.shape == (3, 32, 32)
    assert [len(part) for part in (task.train, task.validation, task.test)] == [30, 10, 20]
    order = task.test.images[:, 0, 0, 0]
    assert torch.equal(order.argsort(), torch.arange(20))
    assert task.test.labels.tolist() == [i % 10 for i in range(20)]
    assert len(images.make_task("cifar10", tmp_path, rows=8).train) == 7


def test_images_and_labels_must_agree(tmp_path: Path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 5, 6]))
    (folder / "train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 5]))
    with pytest.raises(DataError, match="mnist has 2 train images but 1 labels"):
        images.make_task("mnist", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "letters"}, "data='letters' is unknown; take one of digits, mnist"),
        ({"validation": 1.0}, r"validation=1\.0 must be in \(0, 1\)"),
        ({"rows": 1}, "rows=1 must be from 2 to the 1,437"),
        ({"name": "mnist", "data_dir": Path("nowhere")}, "nowhere.*has no train-images-idx3-ubyte"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(DataError, match=message):
        images.make_task(**arguments)
    assert set(DATASETS) == {"digits", "mnist", "fashion-mnist", "cifar10"}


@pytest.mark.parametrize(
    ("name", "shape", "weights"),
    [
        ("mlp", (1, 28, 28), 784 * 300 + 300 * 100 + 100 * 10),
        ("cnn", (1, 28, 28), 16 * 9 + 32 * 16 * 9 + 32 * 49 * 128 + 1280),
        ("vgg", (3, 32, 32), 9 * (3 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128) + 1280),
    ],
)
def test_networks_by_their_weights(name, shape, weights):
    state = torch.random.get_rng_state()
    model = images.build_model(name, shape, seed=1, dropout=0.2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert sp.Synapses(model).total == weights
    assert model(torch.zeros(2, *shape)).shape == (2, 10)
    twin = images.build_model(name, shape, seed=1)
    assert torch.equal(next(twin.parameters()), next(model.parameters()))


def test_unknown_network():
    with pytest.raises(ValueError, match="model='resnet' is unknown; take one of mlp, cnn, vgg"):
        images.build_model("resnet", (1, 8, 8), seed=0)


def test_digits_are_learnt_and_pruned_to_the_weights_that_are_left(digits):
    model = images.build_model("mlp", digits.shape, seed=0, widths=(32,))
    pruners = []

    def attach(net, optimizer, steps):
        pruners.append(sp.SynapticPruner(net, optimizer, sp.Disuse(patience=5, threshold=0.4), total_steps=steps))
        return pruners[0]

    run = images.train(model, digits, epochs=12, seed=0, learning_rate=5e-3, batch_size=32, attach=attach)
    assert run.status == "ok"
    assert run.best_epoch >= 6  # Disuse ends at half of training
    assert images.accuracy(model, digits.test) > 0.9
    zeros = sum(int((m.weight == 0).sum()) for m in model if isinstance(m, nn.Linear))
    assert zeros / pruners[0].synapses.total == pytest.approx(run.sparsity) == pytest.approx(pruners[0].sparsity())
    assert run.sparsity > 0.3
    best = max(run.history[5:], key=lambda row: row["validation_accuracy"])
    assert best["epoch"] == run.best_epoch
    assert images.accuracy(model, digits.validation) == best["validation_accuracy"]
    assert images.epochs_to(run.history, 2.0) is None

    import matplotlib

    matplotlib.use("agg")
    fields = images.receptive_fields(model, digits.shape)
    assert torch.equal(fields.flatten(1), model[1].weight)
    assert len(images.plot_receptive_fields(model, digits.shape, units=6).axes) == 6
    heights = [bar.get_height() for bar in images.plot_streaks(pruners[0].rule).patches]
    assert sum(heights) == pruners[0].synapses.total


def test_the_same_seed_gives_the_same_run(digits):
    runs = []
    for _ in range(2):
        model = images.build_model("mlp", digits.shape, seed=3, widths=(8,))
        state = torch.random.get_rng_state()
        runs.append(images.train(model, digits, epochs=2, seed=3).history)
        assert torch.equal(torch.random.get_rng_state(), state)
    assert [row["train_loss"] for row in runs[0]] == [row["train_loss"] for row in runs[1]]


def test_faults_are_told(digits):
    with pytest.raises(ValueError, match=r"epochs=0 must be at least 1 and batch_size=128"):
        images.train(nn.Linear(1, 1), digits, epochs=0, seed=0)
    model = images.build_model("mlp", digits.shape, seed=0, widths=(8,))
    run = images.train(model, digits, epochs=3, seed=0, learning_rate=1e30)
    assert run.status == "nan-loss"
    assert "lower the learning rate" in run.reason
    part = Labelled(digits.test.images[:5], model.eval()(digits.test.images[:5]).argmax(1))
    assert images.accuracy(model, part, batch_size=2) == 1
    model = images.build_model("mlp", digits.shape, seed=0, widths=(8,))
    ramp = sp.ToSparsity(sp.cubic(0.8, begin=0.3, end=0.8))
    late = lambda m, o, n: sp.SynapticPruner(m, o, ramp, total_steps=10 * n)  # noqa: E731
    run = images.train(model, digits, epochs=1, seed=0, attach=late)
    assert run.status == "pruner-unfinished"
    assert "end its schedule earlier" in run.reason
    assert (run.best_epoch, run.sparsity) == (1, 0.0)  # the weights that are left are the last ones


def test_masks_that_still_change_at_the_final_sparsity_are_not_unfinished(digits):
    model = images.build_model("mlp", digits.shape, seed=0, widths=(32,))
    swapping = lambda m, o, n: sp.SynapticPruner(m, o, sp.RigL(0.7), total_steps=10 * n)  # noqa: E731
    run = images.train(model, digits, epochs=2, seed=0, attach=swapping)
    assert (run.status, run.reason) == ("ok", "")
    assert run.sparsity == pytest.approx(0.7, abs=0.01)
    assert run.best_epoch > 0


def test_a_penalty_of_half_the_squares_is_adams_weight_decay(digits):
    seen, runs = [], []

    def squares(model: nn.Module, progress: float) -> torch.Tensor:
        seen.append(progress)
        return 0.5 * 0.01 * torch.stack([p.square().sum() for p in model.parameters()]).sum()

    for choice in ({"weight_decay": 0.01}, {"penalty": squares}, {}):
        model = images.build_model("mlp", digits.shape, seed=0, widths=(16,)).double()
        run = images.train(model, _double(digits), epochs=2, seed=0, **choice)
        runs.append((nn.utils.parameters_to_vector(model.parameters()), run.history[-1]["train_loss"]))
    (decayed, loss), (penalised, same_loss), (free, _) = runs
    assert torch.allclose(decayed, penalised, atol=1e-6)
    assert not torch.allclose(decayed, free, atol=1e-3)
    assert loss == pytest.approx(same_loss, abs=1e-6)  # without what the penalty added
    assert seen == [step / 18 for step in range(18)]


def _double(task: ClassificationTask) -> ClassificationTask:
    parts = [Labelled(part.images.double(), part.labels) for part in (task.train, task.validation, task.test)]
    return ClassificationTask(task.name, *parts)
