"""Lightning: a callback, and a checkpoint that is chosen only once the network is as sparse as it will be.

Needs: pip install 'synaptic-pruning[lightning]'
"""

import tempfile

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from synaptic_pruning.integrations.lightning import ModelCheckpointAfterRamp, SynapticPruning, find_pruner


class Regression(pl.LightningModule):
    """A small network that adds up four of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the squared error."""
        return (self.net(batch[0]) - batch[1]).square().mean()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log the squared error."""
        self.log("val_loss", (self.net(batch[0]) - batch[1]).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


pl.seed_everything(0)
x = torch.randn(1280, 16)
data = TensorDataset(x, x[:, :4].sum(1, keepdim=True))
with tempfile.TemporaryDirectory() as folder:
    best = ModelCheckpointAfterRamp(folder, monitor="val_loss")
    trainer = pl.Trainer(
        max_epochs=10,
        callbacks=[SynapticPruning(), best],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Regression(), DataLoader(data, batch_size=64, shuffle=True), DataLoader(data, batch_size=256))
    print(find_pruner(trainer).summary())
    print(f"best validation loss at full sparsity: {best.best_model_score:.3f}")
