"""Optimizers of the kinds that people wrap around others; each writes weights where its original does."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer


class Lookahead(Optimizer):
    """Every k steps the weights go back half of the way to slow ones (Zhang et al. 2019)."""

    def __init__(self, inner: Optimizer, k: int = 5, attribute: str = "optimizer") -> None:
        super().__init__([p for group in inner.param_groups for p in group["params"]], {})
        setattr(self, attribute, inner)
        self.inner, self.k, self.count = inner, k, 0
        self.slow = {p: p.detach().clone() for group in inner.param_groups for p in group["params"]}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        self.inner.step(closure)
        self.count += 1
        if self.count % self.k == 0:
            for p, slow in self.slow.items():
                p.copy_(slow.lerp_(p, 0.5))


class LookaheadWithoutHooks(Optimizer):
    """The same as many have copied it: the constructor of Optimizer is never called."""

    def __init__(self, inner: Optimizer) -> None:
        self.optimizer, self.param_groups, self.state = inner, inner.param_groups, inner.state

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        self.optimizer.step(closure)


class HooksThatNeverRun(LookaheadWithoutHooks):
    """With the dictionaries of hooks, but a step that does not look at them."""

    def __init__(self, inner: Optimizer) -> None:
        super().__init__(inner)
        self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks = {}, {}


class NoOptimizer:
    """A schedule of rates that steps what it holds, and is no Optimizer itself."""

    def __init__(self, inner: Optimizer) -> None:
        self.optimizer, self.param_groups = inner, inner.param_groups

    def step(self) -> None:
        self.optimizer.step()


class SAM(Optimizer):
    """Takes the gradient at the worst place nearby (Foret et al. 2021)."""

    def __init__(self, params: Any) -> None:
        super().__init__(list(params), {})
        self.base_optimizer = SGD(self.param_groups[0]["params"], lr=0.05, momentum=0.9)

    @torch.no_grad()
    def first_step(self) -> None:
        for p in self.param_groups[0]["params"]:
            self.state[p]["before"] = p.clone()
            p.add_(p.grad.sign(), alpha=0.01).add_(0.001)  # also where the gradient is zero

    @torch.no_grad()
    def second_step(self) -> None:
        for p in self.param_groups[0]["params"]:
            p.copy_(self.state[p]["before"])
        self.base_optimizer.step()

    def step(self, closure: Callable[[], Any]) -> None:
        closure()
        self.first_step()
        self.zero_grad()
        closure()
        self.second_step()


class Together(Optimizer):
    """One optimizer for the matrices and another for the rest."""

    def __init__(self, params: Any) -> None:
        params = list(params)
        super().__init__(params, {})
        self.parts = [
            Adam([p for p in params if p.dim() > 1], lr=0.01),
            SGD([p for p in params if p.dim() < 2], lr=0.1),
        ]

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        for part in self.parts:
            part.step(closure)


class NoisyAdamW(AdamW):
    """Calls the step of its base class, which runs hooks of its own, and adds noise after it."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(torch.randn_like(p), alpha=1e-3)
        return loss


class Failing(SGD):
    """Raises in its step when it is told to."""

    fails = False

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = super().step(closure)
        if self.fails:
            raise MemoryError("no memory left")
        return loss
