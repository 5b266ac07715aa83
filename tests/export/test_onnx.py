from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from synaptic_pruning.export import to_onnx


def test_onnx_of_the_shrunk_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2)).eval()
    whole = to_onnx(model, torch.randn(2, 8), tmp_path / "whole.onnx").stat().st_size
    with torch.no_grad():
        model[2].weight[:, 4:] = 0
    path = to_onnx(model, torch.randn(2, 8), tmp_path / "small.onnx")
    assert whole - path.stat().st_size > 60 * 10 * 4 * 0.9, "60 units of 8 inputs, a bias and 2 outputs"
    session = onnxruntime.InferenceSession(path)
    x = torch.randn(7, 8)  # another batch size than the example's
    got = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    np.testing.assert_allclose(got, model(x).detach().numpy(), atol=1e-5)


def test_a_file_that_differs_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="differs"):
        to_onnx(nn.Sequential(nn.Linear(8, 8), nn.Tanh()).eval(), torch.randn(2, 8), tmp_path / "a.onnx", atol=-1)
    assert not list(tmp_path.iterdir())
