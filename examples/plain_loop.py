"""A plain training loop: one line attaches the pruner, another belongs in the checkpoint."""

import torch
from torch import nn

import synaptic_pruning as sp

STEPS = 300
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
pruner = sp.SynapticPruner(net, optimizer, total_steps=STEPS)

for _ in range(STEPS):
    x = torch.randn(32, 16)
    loss = (net(x) - x[:, :4].sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# To go on later: load the three in this order.
checkpoint = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "pruner": pruner.state_dict()}
print(pruner.summary())
print(f"loss {loss.item():.3f} at {pruner.sparsity():.0%} sparsity")
