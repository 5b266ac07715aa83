"""Ray Train: the loop of every worker is a plain data-parallel one.

Needs: pip install synaptic-pruning 'ray[train]'
"""

import ray.train
import ray.train.torch
import torch
from torch import nn

import synaptic_pruning as sp

STEPS = 100


def train() -> None:
    """Train one worker's copy."""
    torch.manual_seed(ray.train.get_context().get_world_rank())
    model = ray.train.torch.prepare_model(nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    pruner = sp.SynapticPruner(model, optimizer, total_steps=STEPS)
    for _ in range(STEPS):
        x = torch.randn(32, 16)
        loss = (model(x) - x[:, :4].sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if ray.train.get_context().get_world_rank() == 0:
        print(pruner.summary())


if __name__ == "__main__":
    ray.train.torch.TorchTrainer(train, scaling_config=ray.train.ScalingConfig(num_workers=2)).fit()
