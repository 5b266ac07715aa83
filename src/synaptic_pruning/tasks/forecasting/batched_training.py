"""Train several small RNNs side by side, with one forward and one backward pass for all of them.

A small recurrent network spends its time on the start of kernels, not on arithmetic, so several in one batched product
take hardly longer than one: three twice as fast (`python benchmarks/study.py`). LSTMs gain nothing, since PyTorch's is
one fused kernel; transformers are large enough by themselves.
"""

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from synaptic_pruning.tasks.forecasting.models import RNNForecaster
from synaptic_pruning.tasks.forecasting.training import Run, Settings, Training
from synaptic_pruning.tasks.forecasting.windows import ForecastingTask
from synaptic_pruning.tasks.training import Attach


def train_together(
    models: Sequence[RNNForecaster],
    task: ForecastingTask,
    settings: Settings,
    *,
    seeds: Sequence[int],
    attach: Sequence[Attach | None],
) -> list[Training]:
    """Train networks of one size as `train` would one by one: the same but for rounding, in less time.

    Each has its own batches, dropout, optimizer and pruner. One that ends early, because its loss is no longer finite
    or its patience is over, leaves the others alone.

    Args:
        models: One-layer networks of the same size, with locked dropout or without.
        task: The task of all.
        settings: How all of them are trained.
        seeds: The seed of each network, as for `train`.
        attach: What puts a pruner on each, or None.

    Returns:
        What happened to each; ``train_seconds`` is its share of the time of all.

    Raises:
        ValueError: As for `train`, or networks that differ in size or have more than one layer.
    """
    for model in models:
        settings.check(model, task)
    stack = _Stack(models, seeds)
    with torch.random.fork_rng(devices=[]):
        runs = []
        for model, seed, pruner in zip(models, seeds, attach, strict=True):
            torch.manual_seed(seed)
            runs.append(Run(model, task, settings, seed=seed, attach=pruner))
        while going := [place for place, run in enumerate(runs) if not run.ended]:
            started = time.perf_counter()
            losses = _epoch(stack, runs, going)
            seconds = (time.perf_counter() - started) / len(going)
            for place in going:
                runs[place].end_epoch(losses[place], seconds)
    stack.dissolve()
    return [run.result() for run in runs]


def _epoch(stack: "_Stack", runs: Sequence[Run], going: Sequence[int]) -> list[float]:
    """One pass of all over their training windows; the mean losses, not finite where a network had to stop."""
    totals = [0.0 if place in going else math.nan for place in range(len(runs))]
    for indices in zip(*(run.batches.shuffled() for run in runs), strict=True):
        inputs = torch.stack([run.batches.windows.inputs[index] for run, index in zip(runs, indices, strict=True)])
        forecasts = stack.forecast(inputs)
        losses = [run.batches.error(*pair) for run, *pair in zip(runs, forecasts, indices, strict=True)]
        for place, loss in enumerate(losses):
            totals[place] += loss.item() * len(indices[place])
        stepping = [place for place, total in enumerate(totals) if math.isfinite(total)]
        if not stepping:
            break
        stack.backward(torch.stack([losses[place] for place in stepping]).sum(), stepping)
        for place in stepping:
            if not runs[place].step():
                totals[place] = math.nan
    return [total / len(run.batches.usable) for total, run in zip(totals, runs, strict=True)]


class _Stack:
    """The parameters of several RNNs, stacked; every network's own are views of them, and so trained too."""

    def __init__(self, models: Sequence[RNNForecaster], seeds: Sequence[int]) -> None:
        shapes = [{name: p.shape for name, p in model.named_parameters()} for model in models]
        if any(model.recurrent.num_layers != 1 for model in models) or any(own != shapes[0] for own in shapes):
            raise ValueError("models are not RNNs of one layer and one size; train them one by one.")
        self._models = models
        self._rates = [model.dropout.p for model in models]
        self._locked = [model.locked.p if model.locked else 0.0 for model in models]
        # The stream that `train` leaves to the dropout of a network of this seed.
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._stacked: dict[str, Tensor] = {}
        for name in shapes[0]:
            own = [model.get_parameter(name) for model in models]
            together = torch.stack([parameter.detach() for parameter in own])
            for parameter, part in zip(own, together, strict=True):
                parameter.data = part
            self._stacked[name] = together.requires_grad_()

    def forecast(self, inputs: Tensor) -> Tensor:
        """Return forecasts (networks, batch, horizon) of inputs (networks, batch, window, channels), in training."""
        of = self._stacked
        count, batch, length, channels = inputs.shape
        if any(self._locked):
            masked = self._models[0].masked_inputs
            like = inputs.new_empty(batch, masked + of["recurrent.weight_hh_l0"].shape[-1])
            masks = torch.stack([self._kept(place, rate, like) for place, rate in enumerate(self._locked)])
            inputs = inputs * masks[:, :, None, :masked] if masked else inputs
        bias = (of["recurrent.bias_ih_l0"] + of["recurrent.bias_hh_l0"])[:, None]
        into, onwards = of["recurrent.weight_ih_l0"].transpose(1, 2), of["recurrent.weight_hh_l0"].transpose(1, 2)
        projected = torch.baddbmm(bias, inputs.reshape(count, batch * length, channels), into)
        first, *later = projected.view(count, batch, length, -1).unbind(2)
        hidden = first.tanh()
        for step in later:
            if any(self._locked):
                hidden = hidden * masks[..., masked:]
            hidden = torch.baddbmm(step, hidden, onwards).tanh()
        if any(self._rates):
            hidden = hidden * torch.stack([self._kept(*own, hidden[0]) for own in enumerate(self._rates)])
        return torch.baddbmm(of["head.bias"][:, None], hidden, of["head.weight"].transpose(1, 2))

    def backward(self, loss: Tensor, places: Sequence[int]) -> None:
        """Give the networks at these places their gradients."""
        for together in self._stacked.values():
            together.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        for name, together in self._stacked.items():
            # A window of one row reads no recurrent weights; PyTorch's own layer gives them zeros then, not nothing.
            gradient = torch.zeros_like(together) if together.grad is None else together.grad
            for place in places:
                self._models[place].get_parameter(name).grad = gradient[place]

    def dissolve(self) -> None:
        """Give every network memory of its own again."""
        for model in self._models:
            for parameter in model.parameters():
                parameter.data, parameter.grad = parameter.data.clone(), None

    def _kept(self, place: int, rate: float, like: Tensor) -> Tensor:
        if rate == 0:
            return torch.ones_like(like)
        return torch.empty_like(like).bernoulli_(1 - rate, generator=self._streams[place]).div_(1 - rate)
