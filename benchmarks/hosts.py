"""Time a step with the pruner in each host against the same host without it.

Two trainings without it and two with it take turns, a few steps each, in one process (`turns`); what is compared is the
processor time of this process. Two that do the same tell how far such a comparison can be trusted.
Run: OMP_NUM_THREADS=1 python benchmarks/hosts.py [--size HIDDEN,LAYERS,BATCH,STEPS] [--runs N] [host ...]
"""

import argparse
import logging
import os
import statistics
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from interleaved import EVENT, RAMP, STEPS, Clock, cost, mean, take_turns
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import synaptic_pruning as sp

WINDOW = 30


class Size(NamedTuple):
    """Units and layers of the LSTM, windows a batch, steps of a training."""

    hidden: int = 64
    layers: int = 1
    batch: int = 64
    steps: int = STEPS


size = Size()


class Network(nn.Module):
    """The LSTM forecaster of the comparison; takes and gives what every host wants."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, size.hidden, size.layers, batch_first=True)
        self.head = nn.Linear(size.hidden, 1)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the loss by name, as transformers wants it."""
        return {"loss": nn.functional.mse_loss(self.head(self.lstm(x)[0][:, -1]), y)}


def _data() -> TensorDataset:
    return TensorDataset(torch.randn(size.batch * size.steps, WINDOW, 1), torch.randn(size.batch * size.steps, 1))


def _loop(pruned: bool, clock: Clock, net: nn.Module, call: nn.Module | None = None) -> None:
    optimizer = torch.optim.Adam(net.parameters())
    if pruned:
        sp.SynapticPruner(net, optimizer, RAMP, total_steps=size.steps, every=EVENT)
    for x, y in DataLoader(_data(), size.batch):
        optimizer.zero_grad()
        (call or net)(x, y)["loss"].backward()
        optimizer.step()
        clock()


def plain(pruned: bool, clock: Clock) -> None:
    """Run a plain loop."""
    _loop(pruned, clock, Network())


def lightning(pruned: bool, clock: Clock) -> None:
    """Run a Lightning Trainer."""
    import pytorch_lightning as pl

    from synaptic_pruning.integrations.lightning import SynapticPruning

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Network()

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return self.net(*batch)["loss"]

        def on_train_batch_end(self, *_: Any) -> None:
            clock()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters())

    trainer = pl.Trainer(
        max_epochs=1,
        callbacks=[SynapticPruning(RAMP, every=EVENT)] if pruned else [],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), DataLoader(_data(), size.batch))


def transformers(pruned: bool, clock: Clock) -> None:
    """Run a Hugging Face Trainer."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from synaptic_pruning.integrations.transformers import SynapticPruning

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock()

    data = [{"x": x, "y": y} for x, y in _data()]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=size.steps,
            per_device_train_batch_size=size.batch,
            save_strategy="no",
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        )
        callbacks = [SynapticPruning(RAMP, every=EVENT), Watch()] if pruned else [Watch()]
        Trainer(Network(), arguments, train_dataset=data, callbacks=callbacks).train()


def accelerate(pruned: bool, clock: Clock) -> None:
    """Run an Accelerate loop."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    net = Network()
    net, optimizer, loader = accelerator.prepare(
        net, torch.optim.Adam(net.parameters()), DataLoader(_data(), size.batch)
    )
    if pruned:
        sp.SynapticPruner(net, optimizer, RAMP, total_steps=size.steps, every=EVENT)
    for x, y in loader:
        optimizer.zero_grad()
        accelerator.backward(net(x, y)["loss"])
        optimizer.step()
        clock()


def ddp(pruned: bool, clock: Clock) -> None:
    """Run one of two data-parallel processes."""
    net = Network()
    _loop(pruned, clock, net, nn.parallel.DistributedDataParallel(net))


def fsdp(pruned: bool, clock: Clock) -> None:
    """Run one of two fully sharded processes."""
    from torch.distributed.fsdp import fully_shard

    _loop(pruned, clock, fully_shard(Network()))


def fsdp_wide(pruned: bool, clock: Clock) -> None:
    """Run one of two fully sharded processes on a million weights that are used once a window and no more."""
    from torch.distributed.fsdp import fully_shard

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            hidden = [nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU()]
            self.net = nn.Sequential(nn.Linear(WINDOW, 1024), *hidden, nn.Linear(1024, 1))

        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return {"loss": nn.functional.mse_loss(self.net(x.flatten(1)), y)}

    _loop(pruned, clock, fully_shard(Flat()))


HOSTS = {function.__name__: function for function in (plain, lightning, transformers, accelerate, ddp, fsdp, fsdp_wide)}
PARALLEL = ("ddp", "fsdp", "fsdp_wide")


def _train(host: str, pruned: bool, clock: Clock) -> None:
    torch.manual_seed(0)
    HOSTS[host](pruned, clock)


def _measure(rank: int, host: str, folder: str, options: argparse.Namespace) -> None:
    global size
    size = options.size
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning", "transformers", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if host in PARALLEL:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for _ in range(options.runs):
        a, b, c, d = take_turns([partial(_train, host, pruned) for pruned in (False, True, False, True)])
        if rank == 0:
            print(
                f"{host}: {1e3 * statistics.fmean(a + c):.2f} ms a step, with the pruner "
                f"{cost(mean(b, d), mean(a, c))} (of the same: without {cost(c, a)}, with {cost(d, b)})",
                flush=True,
            )
    if host in PARALLEL:
        dist.destroy_process_group()


def main() -> None:
    """Print a line for each run of each host."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hosts", nargs="*", default=list(HOSTS), metavar="host")
    parser.add_argument("--size", type=lambda text: Size(*map(int, text.split(","))), default=size)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(f"event every {EVENT} steps, {options.size}, {torch.get_num_threads()} thread; ± 2 standard errors")
    os.environ["MALLOC_ARENA_MAX"] = "1"  # or each thread has a heap of its own, and luck with it or not
    for host in options.hosts:
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(_measure, (host, str(Path(folder)), options), 2 if host in PARALLEL else 1)


if __name__ == "__main__":
    main()
