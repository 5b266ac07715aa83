"""Hugging Face: a callback; the masks lie in the checkpoint folders, from which training resumes.

Needs: pip install 'synaptic-pruning[hf]'
"""

import tempfile

import torch
from transformers import PatchTSTConfig, PatchTSTForPrediction, Trainer, TrainingArguments

from synaptic_pruning.integrations.transformers import SynapticPruning

torch.manual_seed(0)
series = torch.sin(torch.arange(500) / 5)[:, None] + 0.1 * torch.randn(500, 1)
windows = [{"past_values": series[i : i + 32], "future_values": series[i + 32 : i + 36]} for i in range(400)]
config = PatchTSTConfig(
    num_input_channels=1,
    context_length=32,
    patch_length=4,
    patch_stride=4,
    prediction_length=4,
    d_model=16,
    num_attention_heads=2,
    num_hidden_layers=1,
)
with tempfile.TemporaryDirectory() as folder:
    pruning = SynapticPruning()
    arguments = TrainingArguments(
        folder, max_steps=200, save_steps=100, learning_rate=1e-3, use_cpu=True, report_to="none", disable_tqdm=True
    )
    trainer = Trainer(PatchTSTForPrediction(config), arguments, train_dataset=windows, callbacks=[pruning])
    trainer.train()  # after an interruption: trainer.train(resume_from_checkpoint=True)
assert pruning.pruner is not None
print(pruning.pruner.summary())
