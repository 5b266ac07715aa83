"""Accelerate: attach the pruner to what ``prepare`` returned and register it for checkpoints.

Needs: pip install 'synaptic-pruning[hf]'
"""

import tempfile

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import synaptic_pruning as sp

EPOCHS = 10
torch.manual_seed(0)
x = torch.randn(1280, 16)
net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1))
accelerator = Accelerator()
net, optimizer, loader = accelerator.prepare(
    net,
    torch.optim.AdamW(net.parameters(), lr=1e-2),
    DataLoader(TensorDataset(x, x[:, :4].sum(1, keepdim=True)), batch_size=64, shuffle=True),
)
pruner = sp.SynapticPruner(net, optimizer, total_steps=EPOCHS * len(loader))
accelerator.register_for_checkpointing(pruner)

for _ in range(EPOCHS):
    for inputs, targets in loader:
        optimizer.zero_grad()
        accelerator.backward((net(inputs) - targets).square().mean())
        optimizer.step()
with tempfile.TemporaryDirectory() as folder:
    accelerator.save_state(folder)  # after an interruption: accelerator.load_state(folder)
print(pruner.summary())
