"""Windows in batches: shuffled for training, in their order for forecasts."""

import torch
from torch import Tensor, nn

from synaptic_pruning.tasks.forecasting.windows import Windows


class Batches:
    """Shuffled batches by index from the strided windows; windows with no known target are passed over."""

    def __init__(self, windows: Windows, batch_size: int, seed: int) -> None:
        known = ~windows.targets.isnan()
        self.windows = windows
        self.batch_size = batch_size
        self.complete = bool(known.all())
        self.usable = known.any(1).nonzero().squeeze(1)
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.usable) // self.batch_size)

    def shuffled(self) -> tuple[Tensor, ...]:
        """Index tensors of one epoch, each (batch,)."""
        order = torch.randperm(len(self.usable), generator=self.generator)
        return torch.split(self.usable[order], self.batch_size)

    def loss(self, model: nn.Module, index: Tensor) -> Tensor:
        """Mean squared error over the known targets of one batch."""
        return self.error(model(self.windows.inputs[index]), index)

    def error(self, forecasts: Tensor, index: Tensor) -> Tensor:
        """The same of forecasts that are there already."""
        targets = self.windows.targets[index]
        if self.complete:
            return nn.functional.mse_loss(forecasts, targets)
        known = ~targets.isnan()
        return nn.functional.mse_loss(forecasts[known], targets[known])


@torch.no_grad()
def predict(model: nn.Module, windows: Windows, batch_size: int = 1024) -> Tensor:
    """Network outputs (n, horizon) for ``windows``; ``task.to_units`` puts them in original units.

    The model is used in the mode it is in (``train`` leaves it in eval), so Monte-Carlo dropout can be
    switched on around the call.
    """
    return torch.cat([model(inputs) for inputs in torch.split(windows.inputs, batch_size)])
