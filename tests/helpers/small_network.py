"""A small network, its data and its training step, for tests of the pruner on any device."""

import torch
from torch import Tensor, nn

import synaptic_pruning as sp

STEPS = 24
RAMP = sp.ToSparsity(sp.cubic(0.9, begin=0.05, end=0.5))  # over at half-time: what comes after it is tested too


def small_net(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Dropout(dropout), nn.Linear(10, 1))


def loss_of(net: nn.Module, step: int = 0, rows: slice = slice(None)) -> Tensor:
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step)).to(next(net.parameters()).device)[rows]
    return (net(x) - x[:, :1]).square().mean()


def learn_step(net: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    optimizer.zero_grad()
    loss_of(net, step).backward()
    optimizer.step()


def pruned_are_zero(net: nn.Module, pruner: sp.SynapticPruner) -> bool:
    """Of a rule that grows, zeros tell less: weights that were grown and got no gradient yet are zeros too."""
    return all(bool((net.get_parameter(name)[~mask] == 0).all()) for name, mask in pruner.masks().items())


def zeros_of(net: nn.Module) -> float:
    weights = torch.cat([p.detach().flatten() for p in net.parameters() if p.dim() == 2])
    return int((weights == 0).sum()) / weights.numel()


def compiled_or_not(compiled: bool, device: str = "cpu", mode: str = "default") -> tuple[nn.Module, sp.SynapticPruner]:
    """Return a network trained with its model and its optimizer's step compiled, or neither, and its pruner."""
    net = small_net().to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    model: nn.Module = torch.compile(net, mode=mode) if compiled else net
    step = torch.compile(optimizer.step) if compiled else optimizer.step
    pruner = sp.SynapticPruner(model, optimizer, RAMP, total_steps=STEPS, every=2)
    for number in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, number).backward()
        step()
    return net, pruner
