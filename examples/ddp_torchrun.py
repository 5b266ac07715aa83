"""Data parallel: every process prunes alike, for all hold the same weights.

Run: torchrun --nproc-per-node 2 examples/ddp_torchrun.py
"""

import torch
import torch.distributed as dist
from torch import nn

import synaptic_pruning as sp

STEPS = 200
dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
device = torch.device("cuda", dist.get_rank()) if torch.cuda.is_available() else torch.device("cpu")
torch.manual_seed(dist.get_rank())  # every process its own data; the weights are those of the first
net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1)).to(device)
model = nn.parallel.DistributedDataParallel(net)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
pruner = sp.SynapticPruner(model, optimizer, total_steps=STEPS)

for _ in range(STEPS):
    x = torch.randn(32, 16, device=device)
    loss = (model(x) - x[:, :4].sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
if dist.get_rank() == 0:
    print(pruner.summary())
dist.destroy_process_group()
