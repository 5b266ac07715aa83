"""Small trainings by real Trainers of both namespaces of Lightning."""

from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

NAMESPACES = {"pytorch_lightning": pytorch_lightning, "lightning": lightning.pytorch}
# What Lightning says about every training as small as these.
QUIET = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore::lightning_fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


def module_of(namespace: Any = pytorch_lightning, dropout: float = 0.0) -> Any:
    class Module(namespace.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Dropout(dropout), nn.Linear(10, 1))

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            return (self.net(batch[0]) - batch[1]).square().mean()

        def validation_step(self, batch: list[Tensor], _: int) -> None:
            # Grows step by step: the very first validation is the best one.
            self.log("val_loss", float(self.global_step))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    torch.manual_seed(0)
    return Module()


def loader() -> DataLoader[Any]:
    """Return eight batches an epoch: three epochs are the `STEPS` of `small`."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(32, 6, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :1]), batch_size=4)


def trainer_of(*callbacks: Any, namespace: Any = pytorch_lightning, **arguments: Any) -> Any:
    return namespace.Trainer(
        **{
            "max_epochs": 3,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": any(isinstance(c, namespace.callbacks.ModelCheckpoint) for c in callbacks),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": list(callbacks),
            **arguments,
        }
    )


def fit(*callbacks: Any, module: Any = None, validate: bool = False, **arguments: Any) -> tuple[Any, Any]:
    trainer = trainer_of(*callbacks, **arguments)
    module = module_of(arguments.get("namespace", pytorch_lightning)) if module is None else module
    trainer.fit(module, loader(), loader() if validate else None)
    return trainer, module


def last(folder: Path, every: int = 1) -> Any:
    return pytorch_lightning.callbacks.ModelCheckpoint(
        folder, filename="{step}", every_n_train_steps=every, save_top_k=-1, enable_version_counter=False
    )


def each_epoch(folder: Path) -> Any:
    """Save at the end of epochs: from the middle of one, Lightning resumes with the epoch's first batches."""
    return pytorch_lightning.callbacks.ModelCheckpoint(
        folder, filename="{step}", save_top_k=-1, enable_version_counter=False, save_on_train_epoch_end=True
    )
