"""Cut windows into batches: shuffled for training, in their order for forecasts."""

import torch
from torch import Tensor, nn

from synaptic_pruning.tasks.forecasting.windows import Windows


class Batches:
    """Shuffled batches, taken by index from the strided windows.

    Windows without any known target are left out.

    Args:
        windows: Windows of the training part.
        batch_size: Windows in a batch; the last batch of an epoch may be smaller.
        seed: Seed of the data order.
    """

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
        """Return the index tensors of one epoch, each of shape (batch,)."""
        order = torch.randperm(len(self.usable), generator=self.generator)
        return torch.split(self.usable[order], self.batch_size)

    def loss(self, model: nn.Module, index: Tensor) -> Tensor:
        """Run the model on one batch and return the mean squared error over its known targets."""
        return self.error(model(self.windows.inputs[index]), index)

    def error(self, forecasts: Tensor, index: Tensor) -> Tensor:
        """Return the mean squared error of given forecasts over the known targets of one batch."""
        targets = self.windows.targets[index]
        if self.complete:
            return nn.functional.mse_loss(forecasts, targets)
        known = ~targets.isnan()
        return nn.functional.mse_loss(forecasts[known], targets[known])


@torch.no_grad()
def predict(model: nn.Module, windows: Windows, batch_size: int = 1024) -> Tensor:
    """Return the network's outputs for all windows; ``task.to_units`` puts them in original units.

    The model runs in the mode that it is in (``train`` leaves it in eval), so Monte-Carlo dropout can be
    switched on around the call.

    Args:
        model: Network from (batch, window, channels) to (batch, horizon).
        windows: Windows to forecast, n of them.
        batch_size: Windows in a batch.

    Returns:
        Outputs, shape (n, horizon).
    """
    return torch.cat([model(inputs) for inputs in torch.split(windows.inputs, batch_size)])
