"""Training in real processes, talking over gloo: their masks are those of one process, bit for bit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import synaptic_pruning as sp
from helpers.processes.rank_processes import group, spawn
from synaptic_pruning.core import Shard as Layout
from synaptic_pruning.core.sharding import whole

STEPS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def two(folder: Path) -> Path:
    """The folder in which two processes have left what they found in every case."""
    return spawn(2, folder, CASES[2])


@pytest.fixture(scope="module")
def one(two: Path) -> Path:
    """The same of a single one, which goes on where two stopped."""
    folder = two
    return spawn(1, folder, CASES[1])


@pytest.fixture(scope="module")
def four(two: Path) -> Path:
    """The same of four, some of which go on where two stopped."""
    folder = two
    return spawn(4, folder, CASES[4])


def _net() -> nn.Sequential:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3, dtype=torch.bfloat16), nn.Tanh(), nn.Linear(3, 9))
    for parameter in net.parameters():
        parameter.data = ((parameter.data * 8).floor() + 0.5) / 8  # many ties, no zeros
    return net


def _tensor_parallel(net: nn.Module, mesh: DeviceMesh) -> nn.Module:
    return parallelize_module(net, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel(), "4": ColwiseParallel()})


def _fsdp_of_tensor_parallel(net: nn.Module, world: int) -> nn.Module:
    mesh = init_device_mesh("cpu", (world // 2, 2), mesh_dim_names=("data", "tensor"))
    return fully_shard(_tensor_parallel(net, mesh["tensor"]), mesh=mesh["data"])


def _replicas_of_shards(net: nn.Module, world: int) -> nn.Module:
    return fully_shard(net, mesh=init_device_mesh("cpu", (world // 2, 2), mesh_dim_names=("replicate", "shard")))


def _partly(net: nn.Sequential, world: int) -> nn.Module:
    fully_shard(net[4], mesh=init_device_mesh("cpu", (world,)))
    return net


SHARDINGS: dict[str, Callable[[nn.Module, int], nn.Module]] = {
    "whole": lambda net, world: net,
    "fsdp": lambda net, world: fully_shard(net, mesh=init_device_mesh("cpu", (world,))),
    "tensor parallel": lambda net, world: _tensor_parallel(net, init_device_mesh("cpu", (world,))),
    "fsdp of tensor parallel": _fsdp_of_tensor_parallel,
    "replicas of shards": _replicas_of_shards,
    "partly": _partly,
}


def _step(net: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Take a step with gradients that depend on nothing but its number, so that every layout computes the same bits."""
    generator = torch.Generator().manual_seed(step)
    for parameter in net.parameters():
        gradient = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        layout = Layout.of(parameter)
        if layout is None:
            parameter.grad = None
            (parameter * gradient).sum().backward()
        else:
            parameter.grad = layout.wrap(layout.take(gradient))
    optimizer.step()


OWN_RULES: dict[str, Callable[[], sp.Rule]] = {
    "pattern": lambda: sp.ToSparsity(sp.cubic(0.75, end=0.8), pattern=(1, 4)),
    "rigl-pattern": lambda: sp.RigL(0.5, drop=0.6, pattern=(2, 4)),
    "set": lambda: sp.SET(0.6, drop=0.6, scaled_start=True),
    "rigl": lambda: sp.RigL(0.6, drop=0.6),
    "granet": lambda: sp.GraNet(0.6, drop=0.6, begin=0.0, ramp_end=0.5),
}


def _pruned(net: nn.Module, score: str) -> tuple[torch.optim.Optimizer, sp.SynapticPruner]:
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    rule = OWN_RULES[score]() if score in OWN_RULES else sp.ToSparsity(sp.cubic(0.8, end=0.8), score=score)
    return optimizer, sp.SynapticPruner(net, optimizer, rule, total_steps=STEPS, every=1)


def _everything(net: nn.Module, optimizer: torch.optim.Optimizer, pruner: sp.SynapticPruner) -> dict[str, Tensor]:
    state = {f"weight {name}": whole(p.detach()).clone() for name, p in net.named_parameters()}
    state |= {f"mask {name}": whole(mask) for name, mask in pruner.masks().items()}
    state |= {
        f"{key} {name}": whole(value).clone()
        for name, p in net.named_parameters()
        for key, value in optimizer.state[p].items()
    }
    total = pruner.summary().total
    ends = ("unreached_units", "grown", "pruned", "mean_age")
    return {
        **state,
        "sparsity": torch.tensor(pruner.sparsity()),
        **{name: torch.tensor(getattr(total, name)) for name in ends},
        "survival": torch.tensor([curve["alive"][-1] for curve in pruner.summary().survival]),
    }


def _train(rank: int, world: int, folder: str, sharding: str, score: str, first: int, last: int) -> None:
    """Train from step ``first``, out of the checkpoint if it is not 0, up to ``last``, and leave a checkpoint there."""
    with group(rank, world, folder):
        net = SHARDINGS[sharding](_net(), world)
        optimizer, pruner = _pruned(net, score)
        if first:
            model_state, optimizer_state = get_state_dict(net, optimizer)
            dcp.load(
                {"model": model_state, "optimizer": optimizer_state, "pruner": pruner},
                checkpoint_id=f"{folder}/{first}",
            )
            set_state_dict(net, optimizer, model_state_dict=model_state, optim_state_dict=optimizer_state)
        for step in range(first, last):
            _step(net, optimizer, step)
        state = _everything(net, optimizer, pruner)
        if rank == world - 1:
            torch.save(state, f"{folder}/end.pt")
        if last < STEPS:
            model_state, optimizer_state = get_state_dict(net, optimizer)
            dcp.save(
                {"model": model_state, "optimizer": optimizer_state, "pruner": pruner}, checkpoint_id=f"{folder}/{last}"
            )


def _alone(score: str) -> dict[str, Tensor]:
    net = _net()
    optimizer, pruner = _pruned(net, score)
    for step in range(STEPS):
        _step(net, optimizer, step)
    return _everything(net, optimizer, pruner)


def _assert_same(folder: Path, score: str) -> None:
    state, expected = torch.load(folder / "end.pt"), _alone(score)
    assert state.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(state[name], expected[name])] == []


@pytest.mark.parametrize(
    "case",
    [
        "fsdp magnitude",
        "fsdp relative",
        "tensor parallel random",
        "fsdp set",
        "fsdp rigl",
        "fsdp rigl-pattern",
        "tensor parallel pattern",
    ],
)
def test_training_sharded_over_two_is_that_of_one_process(two: Path, case: str):
    _assert_same(two / case, case.split()[-1])


SLOW = [
    "fsdp magnitude",  # leaves empty shards
    "fsdp gradient",
    "partly magnitude",
    "fsdp of tensor parallel magnitude",
    "fsdp of tensor parallel relative",
    "replicas of shards random",
    "fsdp set",
    "fsdp of tensor parallel rigl",
    "partly granet",
    "fsdp pattern",
    "fsdp of tensor parallel rigl-pattern",
]


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
def test_training_sharded_over_four_is_that_of_one_process(four: Path, case: str):
    _assert_same(four / f"{case} on four", case.split()[-1])


@pytest.mark.parametrize("score", ["magnitude", "relative", "set"])
def test_resume_on_fewer_ranks(one: Path, score: str):
    _assert_same(one / f"half way {score}", score)


@pytest.mark.slow
@pytest.mark.parametrize("score", ["magnitude", "rigl"])
def test_resume_on_more_ranks(four: Path, score: str):
    _assert_same(four / f"half way too {score}", score)


RULES: dict[str, Callable[[], sp.Rule]] = {
    "magnitude": lambda: sp.ToSparsity(sp.cubic(0.8, end=0.8)),
    "gradient": lambda: sp.ToSparsity(sp.cubic(0.8, end=0.8), score="gradient"),
    "disuse": lambda: sp.Disuse(patience=2, threshold=0.8),
    "rigl": lambda: sp.RigL(0.8),
}


def _data_parallel(rank: int, world: int, folder: str, sharding: str, rule: str) -> None:
    with group(rank, world, folder):
        torch.manual_seed(rank)  # DDP broadcasts rank 0's weights
        net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1))
        if sharding == "ddp":
            model = nn.parallel.DistributedDataParallel(net, gradient_as_bucket_view=rule == "gradient")
        else:
            torch.manual_seed(0)
            net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1))
            model = fully_shard(net)
            torch.manual_seed(rank)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        pruner = sp.SynapticPruner(model, optimizer, RULES[rule](), total_steps=20)
        leaked = torch.zeros(())
        for _ in range(20):
            optimizer.zero_grad()
            model(torch.randn(8, 6) * (1 + rank)).square().mean().backward()  # every rank its own data
            if sharding == "ddp":
                kept, named = pruner.masks(), dict(net.named_parameters())
                leaked += sum(named[name].grad[~mask].abs().sum() for name, mask in kept.items())
            optimizer.step()
        masks = {name: whole(mask) for name, mask in pruner.masks().items()}
        weights = {name: whole(p.detach()) for name, p in net.named_parameters()}
        torch.save({"masks": masks, "weights": weights, "leaked": leaked}, f"{folder}/{rank}.pt")


@pytest.mark.parametrize(
    "case", ["ddp magnitude", "ddp gradient", "ddp disuse", "ddp rigl", "fsdp own data", "fsdp own data rigl"]
)
def test_two_processes_with_their_own_data_end_with_the_same_masks(two: Path, case: str):
    first, second = (torch.load(two / case / f"{rank}.pt") for rank in range(2))
    for name in ("0.weight", "2.weight"):
        assert torch.equal(first["masks"][name], second["masks"][name])
        assert torch.equal(first["weights"][name], second["weights"][name])
        assert (first["weights"][name][~first["masks"][name]] == 0).all()
    # What the ranks exchange has no gradient of a pruned weight, but at the events of a rule that grows.
    assert "rigl" in case or first["leaked"] == second["leaked"] == 0
    gone = sum(int((~mask).sum()) for mask in first["masks"].values())
    assert gone > 30 if case == "ddp disuse" else gone == round(0.8 * 84)


def _trained_on_one(rank: int, world: int, folder: str) -> None:
    with group(rank, world, folder):
        torch.manual_seed(0)
        net = nn.Linear(40, 40, bias=False)
        net.weight.data[20:] += torch.randn(20, 1) * torch.randn(40) / 10  # learnt by rows of the second rank alone
        fully_shard(net)
        optimizer = torch.optim.Adam(net.parameters())
        with pytest.raises(ValueError, match="does not look freshly initialised") as caught:
            sp.SynapticPruner(net, optimizer, sp.SET(0.8, scaled_start=True), total_steps=20)
        Path(folder, str(rank)).write_text(str(caught.value))


def test_learnt_weights_of_one_rank_stop_every_rank(two: Path):
    assert (two / "trained on one/0").read_text() == (two / "trained on one/1").read_text()


def _split_blocks(rank: int, world: int, folder: str) -> None:
    with group(rank, world, folder):
        net = SHARDINGS["tensor parallel"](_net(), world)  # seven inputs lie as four and three
        optimizer = torch.optim.Adam(net.parameters())
        before = [whole(p.detach()).clone() for p in net.parameters()]
        texts = []
        for rule in (
            sp.ToSparsity(sp.cubic(2 / 3), pattern=(1, 3)),
            sp.SET(2 / 3, pattern=(1, 3), scaled_start=True),
            sp.GraNet(2 / 3, pattern=(1, 3)),
        ):
            with pytest.raises(ValueError, match="needs each block of 3 inputs on one rank") as caught:
                sp.SynapticPruner(net, optimizer, rule, total_steps=20)
            texts.append(str(caught.value))
        assert all(torch.equal(whole(p.detach()), old) for p, old in zip(net.parameters(), before, strict=True))
        sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.cubic(0.5), pattern=(2, 4)), total_steps=20)
        Path(folder, str(rank)).write_text("\n".join(texts))


def test_blocks_that_ranks_share_are_refused_by_every_rank(two: Path):
    texts = (two / "split blocks/0").read_text()
    assert texts == (two / "split blocks/1").read_text()
    assert [line.split(" on one rank and ")[1][:8] for line in texts.split("\n")] == ["2.weight"] * 3


def _not_a_number(rank: int, world: int, folder: str) -> None:
    with group(rank, world, folder):
        net = SHARDINGS["fsdp"](_net(), world)
        optimizer, _ = _pruned(net, "pattern")
        if rank == 1:
            with torch.no_grad():
                net[2].weight.to_local().fill_(float("nan"))
        with pytest.raises(ValueError, match=r"2\.weight holds NaN"):
            _step(net, optimizer, 0)
        Path(folder, str(rank)).touch()


def test_nan_on_one_rank_stops_every_rank_of_a_pattern(two: Path):
    assert len(list((two / "not a number").iterdir())) == 2


# What each number of processes does.
CASES = {
    1: {f"half way {score}": (_train, "fsdp", score, 5, STEPS) for score in ("magnitude", "relative", "set")},
    2: {
        "fsdp magnitude": (_train, "fsdp", "magnitude", 0, STEPS),
        "fsdp relative": (_train, "fsdp", "relative", 0, STEPS),
        "tensor parallel random": (_train, "tensor parallel", "random", 0, STEPS),
        "fsdp set": (_train, "fsdp", "set", 0, STEPS),
        "fsdp rigl": (_train, "fsdp", "rigl", 0, STEPS),
        **{f"half way {score}": (_train, "fsdp", score, 0, 5) for score in ("magnitude", "relative", "set")},
        **{f"half way too {score}": (_train, "tensor parallel", score, 0, 5) for score in ("magnitude", "rigl")},
        "ddp magnitude": (_data_parallel, "ddp", "magnitude"),
        "ddp gradient": (_data_parallel, "ddp", "gradient"),
        "ddp disuse": (_data_parallel, "ddp", "disuse"),
        "ddp rigl": (_data_parallel, "ddp", "rigl"),
        "fsdp own data": (_data_parallel, "fsdp", "gradient"),
        "fsdp own data rigl": (_data_parallel, "fsdp", "rigl"),
        "trained on one": (_trained_on_one,),
        "fsdp rigl-pattern": (_train, "fsdp", "rigl-pattern", 0, STEPS),
        "tensor parallel pattern": (_train, "tensor parallel", "pattern", 0, STEPS),
        "split blocks": (_split_blocks,),
        "not a number": (_not_a_number,),
    },
    4: {
        **{f"{case} on four": (_train, *case.rsplit(" ", 1), 0, STEPS) for case in SLOW},
        **{f"half way too {score}": (_train, "fsdp", score, 5, STEPS) for score in ("magnitude", "rigl")},
    },
}
