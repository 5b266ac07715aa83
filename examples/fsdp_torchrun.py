"""Fully sharded: every process prunes its own part, all by one threshold; checkpoints load on any number of them.

Run: torchrun --nproc-per-node 2 examples/fsdp_torchrun.py
"""

import tempfile

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

import synaptic_pruning as sp

STEPS = 200
dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
if torch.cuda.is_available():
    torch.cuda.set_device(dist.get_rank())
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1)).to(device)
fully_shard(net)
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
pruner = sp.SynapticPruner(net, optimizer, total_steps=STEPS)  # after sharding

for _ in range(STEPS):
    x = torch.randn(32, 16, device=device)
    loss = (net(x) - x[:, :4].sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

folder = [tempfile.mkdtemp()]
dist.broadcast_object_list(folder)
model_state, optimizer_state = get_state_dict(net, optimizer)
state = {"model": model_state, "optimizer": optimizer_state, "pruner": pruner}
dcp.save(state, checkpoint_id=folder[0])
dcp.load(state, checkpoint_id=folder[0])  # here or with more or fewer processes
set_state_dict(net, optimizer, model_state_dict=model_state, optim_state_dict=optimizer_state)

summary = pruner.summary()  # by every process
if dist.get_rank() == 0:
    print(summary)
dist.destroy_process_group()
