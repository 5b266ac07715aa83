"""Frameworks that need no file of their own: the pruner is attached in their usual hooks."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft")
pytest.importorskip("skorch")

import numpy as np
import peft
import skorch
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import synaptic_pruning as sp
from helpers.small_network import pruned_are_zero
from synaptic_pruning.integrations.transformers import SynapticPruning

pytestmark = [pytest.mark.hosts, pytest.mark.filterwarnings("ignore")]


class _Pruning(skorch.callbacks.Callback):
    """What docs/hosts.md shows."""

    def on_train_begin(self, net: skorch.NeuralNet, X: Any = None, y: Any = None, **_: Any) -> None:
        steps = net.max_epochs * len(net.get_iterator(net.get_split_datasets(X, y)[0], training=True))
        self.pruner_ = sp.SynapticPruner(net.module_, net.optimizer_, total_steps=steps)

    def on_train_end(self, net: skorch.NeuralNet, **_: Any) -> None:
        self.pruner_.remove()


def test_skorch():
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(80, 6)).astype("float32")
    net = skorch.NeuralNetRegressor(
        nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 1)),
        optimizer=torch.optim.Adam,
        max_epochs=4,
        batch_size=8,
        verbose=0,
        callbacks=[("pruning", _Pruning())],
    )
    net.fit(x, x[:, :1])
    pruner = dict(net.callbacks_)["pruning"].pruner_
    assert pruner.steps == pruner.total_steps == 4 * 8  # 64 of 80 rows train
    assert pruner.sparsity() == 56 / 70
    assert pruned_are_zero(net.module_, pruner)


def _bert() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
        num_labels=2,
    )
    return BertForSequenceClassification(config)


def test_hyperparameters_of_transformers_are_searched_with_fresh_masks(tmp_path: Path):
    pytest.importorskip("optuna")
    words = [{"input_ids": row, "labels": row[0] % 2} for row in torch.randint(0, 20, (16, 8))]
    begun: list[float] = []
    ended: list[tuple[int, float]] = []

    class Watch(SynapticPruning):
        def on_train_begin(self, *arguments: Any, **named: Any) -> None:
            super().on_train_begin(*arguments, **named)
            begun.append(self.pruner.sparsity())

        def on_train_end(self, *arguments: Any, **named: Any) -> None:
            ended.append((self.pruner.steps, self.pruner.sparsity()))
            super().on_train_end(*arguments, **named)

    pruning = Watch(sp.ToSparsity(sp.cubic(0.8, begin=0.3, end=0.8)))
    trainer = Trainer(
        args=TrainingArguments(
            str(tmp_path), max_steps=20, report_to="none", disable_tqdm=True, use_cpu=True, eval_strategy="epoch"
        ),
        model_init=lambda trial: _bert(),
        train_dataset=words,
        eval_dataset=words,
        callbacks=[pruning],
    )
    best = trainer.hyperparameter_search(
        backend="optuna", n_trials=2, hp_space=lambda trial: {"learning_rate": trial.suggest_float("lr", 1e-4, 1e-2)}
    )
    assert begun == [0, 0]  # every trial starts with a dense network of its own
    assert [steps for steps, _ in ended] == [20, 20]
    assert [sparsity for _, sparsity in ended] == pytest.approx([0.8, 0.8], abs=1e-3)
    assert best.objective > 0


def _adapted() -> nn.Module:
    lora = peft.LoraConfig(r=4, target_modules=["query", "value"], task_type="SEQ_CLS")
    return peft.get_peft_model(_bert(), lora)


@pytest.mark.parametrize("exclude", [[], ["*classifier*"]], ids=["all that trains", "adapters"])
def test_low_rank_adapters(exclude: list[str]):
    model = _adapted()
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    pruner = sp.SynapticPruner(model, optimizer, total_steps=20, exclude=exclude)
    words = torch.randint(0, 20, (4, 8))
    for _ in range(20):
        optimizer.zero_grad()
        model(input_ids=words, labels=words[:, 0] % 2).loss.backward()
        optimizer.step()
    assert pruner.finished
    assert all("lora" in name or "classifier" in name for name in pruner.masks())
    assert any("lora_A" in name for name in pruner.masks())
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)
    assert pruned_are_zero(model, pruner)


def _eight_bits(name: str, parameters: Any) -> torch.optim.Optimizer:
    if name == "torchao":
        return pytest.importorskip("torchao.optim").AdamW8bit(parameters, lr=0.01)
    return pytest.importorskip("bitsandbytes").optim.AdamW8bit(parameters, lr=0.01, min_8bit_size=1024)


def _values(state: dict[str, Any], place: int) -> Tensor:
    """What an optimizer of eight bits remembers: the moment of this number, up to a positive factor a block."""
    if f"state{place}" in state:
        return state[f"qmap{place}"][state[f"state{place}"].long()]
    return state[("exp_avg", "exp_avg_sq")[place - 1]].dequantize()


@pytest.mark.parametrize("name", ["bitsandbytes", "torchao"])
def test_optimizers_of_eight_bits_forget_the_pruned(name: str):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))
    optimizer = _eight_bits(name, net.parameters())
    pruner = sp.SynapticPruner(net, optimizer, sp.RigL(0.7, end=0.5), total_steps=40, every=10)
    losses = []
    for _ in range(40):
        x = torch.randn(64, 64)
        loss = (net(x) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if pruner.steps == 10:
            pruned = ~pruner.masks()["0.weight"]
            state = optimizer.state[net[0].weight]
            for place in (1, 2):
                assert (_values(state, place)[pruned].abs() < 1e-6).all()
                assert (_values(state, place)[~pruned] != 0).any()
    assert pruner.summary().total.grown > 0
    assert all((net.get_parameter(layer)[~mask] == 0).all() for layer, mask in pruner.masks().items())
    assert losses[-1] < losses[0]
