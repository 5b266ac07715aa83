"""A training script for torchrun, one of whose processes may be killed; see test_killed_ranks.py.

Arguments: a folder, "ddp" or "fsdp", and the step after which rank 1 kills itself (0: never).
"""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from killed_runs import die, learn
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import fully_shard

import synaptic_pruning as sp

STEPS, SAVE_EVERY = 24, 4


def whole(net: nn.Module) -> dict[str, Any]:
    return get_model_state_dict(net, options=StateDictOptions(full_state_dict=True))


def main(folder: Path, kind: str, deadly: int) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(9, 21), nn.Tanh(), nn.Linear(21, 1))
    model = nn.parallel.DistributedDataParallel(net) if kind == "ddp" else fully_shard(net)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    pruner = sp.SynapticPruner(model, optimizer, sp.ToSparsity(sp.cubic(0.8, begin=0.1, end=0.8)), total_steps=STEPS)

    latest = folder / "latest"
    done = int(latest.read_text()) if latest.exists() else 0
    if done:
        model_state, optimizer_state = get_state_dict(model, optimizer)
        state = {"model": model_state, "optimizer": optimizer_state, "pruner": pruner}
        dcp.load(state, checkpoint_id=folder / str(done))
        set_state_dict(model, optimizer, model_state_dict=model_state, optim_state_dict=optimizer_state)

    for step in range(done + 1, STEPS + 1):
        learn(model, optimizer, step, rank)
        if step % SAVE_EVERY == 0:
            model_state, optimizer_state = get_state_dict(model, optimizer)
            state = {"model": model_state, "optimizer": optimizer_state, "pruner": pruner}
            dcp.save(state, checkpoint_id=folder / str(step))
            if rank == 0:
                latest.write_text(str(step))
            dist.barrier()
        if rank == 1 and step == deadly:
            die()

    weights, summary = whole(net), pruner.summary()
    masks = {name: weight != 0 for name, weight in weights.items() if name.endswith("weight")}
    if rank == 0:
        torch.save({"weights": weights, "masks": masks, "alive": summary.total.alive, "from": done}, folder / "end.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
