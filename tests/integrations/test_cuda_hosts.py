"""On a GPU (`make test-cuda`): NCCL, trainers in half precision, export, and image tasks."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset

import synaptic_pruning as sp
from helpers.small_network import RAMP, STEPS, learn_step, small_net, zeros_of
from synaptic_pruning.core.topk.select import kth_smallest, smallest_k

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def nccl(tmp_path: Path) -> Iterator[None]:
    torch.cuda.set_device(0)
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["ddp", "fsdp", "tensors"])
def test_nccl(nccl: None, kind: str):
    """One GPU is one rank; the counts go through NCCL all the same."""
    alone, net = small_net().cuda(), small_net().cuda()
    model: nn.Module = net
    if kind == "ddp":
        model = nn.parallel.DistributedDataParallel(net)
    if kind == "fsdp":
        model = fully_shard(net, mesh=init_device_mesh("cuda", (1,)))
    pruners = []
    for one in (alone, model):
        optimizer = torch.optim.Adam(one.parameters(), lr=0.01)
        pruners.append(sp.SynapticPruner(one, optimizer, RAMP, total_steps=STEPS, every=2))
        for step in range(STEPS):
            learn_step(one, optimizer, step)
    assert pruners[1].sparsity() == 0.9
    for name, mask in pruners[0].masks().items():
        other = pruners[1].masks()[name]
        assert torch.equal(mask, other.full_tensor() if hasattr(other, "full_tensor") else other), name
    if kind == "tensors":
        values = torch.randn(5000, device="cuda")
        assert kth_smallest([values], 777, group=dist.group.WORLD) == kth_smallest([values], 777)
        assert torch.equal(smallest_k([values], 777, group=dist.group.WORLD)[0], smallest_k([values], 777)[0])


def test_disuse_in_a_data_parallel_network(nccl: None):
    net = small_net().cuda()
    model = nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    rule = sp.Disuse(patience=2, threshold=0.9, sample=1)
    pruner = sp.SynapticPruner(model, optimizer, rule, total_steps=STEPS, every=2)
    for step in range(STEPS):
        learn_step(model, optimizer, step)
    assert pruner.finished
    assert 0.3 < pruner.sparsity() == zeros_of(net)


@pytest.mark.filterwarnings("ignore")
def test_lightning_in_half_precision(tmp_path: Path):
    lightning = pytest.importorskip("pytorch_lightning")
    from synaptic_pruning.integrations.lightning import SynapticPruning, find_pruner

    class Module(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = small_net()

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            return (self.net(batch[0]) - batch[1]).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    x = torch.randn(32, 6)
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="gpu",
        devices=1,
        precision="16-mixed",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[SynapticPruning(RAMP)],
        default_root_dir=tmp_path,
    )
    module = Module()
    trainer.fit(module, DataLoader(TensorDataset(x, x[:, :1]), batch_size=4))
    pruner = find_pruner(trainer)
    assert pruner.total_steps == STEPS
    assert STEPS - 8 <= pruner.steps <= STEPS  # the scale may have been too large for the first steps
    assert zeros_of(module) == 63 / 70


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_hugging_face_in_half_precision(tmp_path: Path, precision: str):
    transformers = pytest.importorskip("transformers")
    from synaptic_pruning.integrations.transformers import SynapticPruning

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=2
    )
    words = torch.randint(0, 20, (32, 8), generator=torch.Generator().manual_seed(1))
    data = [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row[0] % 2} for row in words]
    pruning = SynapticPruning(RAMP)
    settings = {"max_steps": STEPS, "per_device_train_batch_size": 4, "learning_rate": 0.01, "save_strategy": "no"}
    quiet = {"report_to": "none", "disable_tqdm": True}
    trainer = transformers.Trainer(
        transformers.BertForSequenceClassification(config),
        transformers.TrainingArguments(str(tmp_path), **settings, **quiet, **{precision: True}),
        train_dataset=data,
        callbacks=[pruning],
    )
    trainer.train()
    assert next(trainer.model.parameters()).is_cuda
    assert pruning.pruner is not None
    assert STEPS - 8 <= pruning.pruner.steps <= STEPS
    weights = [p for name, p in trainer.model.named_parameters() if name in pruning.pruner.masks()]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert zeros == pytest.approx(0.9, abs=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_accelerate_in_half_precision():
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    x = torch.randn(32, 6)
    net = small_net()
    accelerator = accelerate.Accelerator(mixed_precision="fp16")
    model, optimizer, loader = accelerator.prepare(
        net, torch.optim.Adam(net.parameters(), lr=0.01), DataLoader(TensorDataset(x, x[:, :1]), batch_size=4)
    )
    pruner = sp.SynapticPruner(model, optimizer, RAMP, total_steps=STEPS, every=2)
    for _ in range(4):
        for inputs, targets in loader:
            if pruner.steps < STEPS:
                optimizer.zero_grad()
                accelerator.backward((model(inputs) - targets).square().mean())
                optimizer.step()
    assert pruner.synapses.layers[0].parameter.is_cuda
    assert pruner.steps == STEPS
    assert zeros_of(net) == 63 / 70


def test_a_network_on_a_gpu_is_exported(tmp_path: Path):
    pytest.importorskip("safetensors")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 1)).cuda()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    rule = sp.Units(sp.one_shot(0.5, at=0.2))
    sp.SynapticPruner(net, optimizer, rule, total_steps=5, every=1, exclude=["4.*"])
    for step in range(5):
        learn_step(net, optimizer, step)
    x = torch.randn(4, 6, device="cuda")
    small = sp.export.shrink(net, x)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())
    torch.testing.assert_close(small(x), net.eval()(x))
    sp.export.save(net, tmp_path / "net.safetensors")
    again = copy.deepcopy(net).cpu()
    for parameter in again.parameters():
        nn.init.zeros_(parameter)
    sp.export.load(again, tmp_path / "net.safetensors")
    assert all(torch.equal(a, b.cpu()) for a, b in zip(again.parameters(), net.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"model lies on cuda:0 .*give model\.cpu\(\)"):
        sp.export.compact(net, x)


def test_images_are_classified_on_a_gpu():
    pytest.importorskip("sklearn")
    from synaptic_pruning.tasks.classification import accuracy, build_model, make_task, train

    task = make_task("digits").to("cuda")
    model = build_model("cnn", task.shape, seed=0).cuda()
    before = torch.cuda.get_rng_state()
    run = train(
        model,
        task,
        epochs=10,
        seed=0,
        attach=lambda net, optimizer, steps: sp.SynapticPruner(net, optimizer, total_steps=steps),
    )
    assert run.status == "ok"
    assert run.sparsity == pytest.approx(0.8, abs=1e-3)
    assert accuracy(model, task.test) > 0.5
    assert torch.equal(torch.cuda.get_rng_state(), before)
