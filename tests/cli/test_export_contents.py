"""Every kind of content that a file of weights can have comes back exactly, or is refused in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from synaptic_pruning.cli import app
from synaptic_pruning.export import FileError, load, read, save
from synaptic_pruning.export.packed import read_state, save_state


class Tied(nn.Module):
    """An encoder and a decoder with one weight, a module used twice, a buffer shared."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(40, 40, bias=False), nn.Linear(40, 40)
        self.decoder.weight = self.encoder.weight
        self.again = self.decoder
        self.register_buffer("first", torch.arange(9.0))
        self.register_buffer("second", self.first)


def sparse(*shape: int) -> Tensor:
    return torch.randn(shape) * (torch.rand(shape) < 0.2)


WHOLE = sparse(64, 64)
KEPT: dict[str, Callable[[], dict[str, Any]]] = {
    "tied": lambda: Tied().state_dict(),
    "tied and pruned": lambda: {"a": WHOLE, "b": WHOLE},
    "not contiguous": lambda: {"a": sparse(64, 48).T, "b": torch.randn(6, 8)[:, ::2]},
    "views of a larger storage": lambda: {"a": WHOLE[3:60, 5:50], "b": WHOLE[0], "c": WHOLE},
    "channels last": lambda: {"a": sparse(8, 8, 3, 3).to(memory_format=torch.channels_last)},
    "half precisions": lambda: {"a": sparse(64, 64).bfloat16(), "b": sparse(64, 64).half()},
    "float64": lambda: {"a": sparse(64, 64).double()},
    "integers": lambda: {f"{t}": torch.arange(9).to(t) for t in (torch.int8, torch.uint8, torch.int16, torch.int64)},
    "truth values": lambda: {"a": torch.rand(40) < 0.5},
    "no entries": lambda: {"a": torch.zeros(0), "b": torch.zeros(3, 0, 2)},
    "no tensors": lambda: {},
    "scalars": lambda: {"a": torch.tensor(3.5), "b": torch.tensor(7)},
    "odd names": lambda: {n: torch.ones(2) for n in ("", " ", "ä/ß\n\t", '"quoted"', "a::b", "../x", "💡", "{", "a.0")},
    "names like those of parts": lambda: {"a": sparse(64, 64), "a::other": torch.ones(2), "b::mask": torch.ones(2)},
    "not finite": lambda: {"a": torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0])},
    "negative views": lambda: {"a": torch.randn(40, dtype=torch.complex64).conj().imag},
    "parameters": lambda: {"a": nn.Parameter(sparse(64, 64))},
}


class Evil(nn.Linear):
    pass


def dtensor() -> Tensor:
    class Wrapper(Tensor):
        @staticmethod
        def __new__(cls: type, data: Tensor) -> Tensor:
            return Tensor._make_wrapper_subclass(cls, data.shape, dtype=data.dtype)

        @classmethod
        def __torch_dispatch__(cls, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    return Wrapper(torch.ones(2))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "complex": (lambda: {"a": torch.ones(2, dtype=torch.complex64)}, "complex64"),
    "eight bits": (lambda: {"a": torch.ones(2).to(torch.float8_e4m3fn)}, "float8"),
    "unsigned": (lambda: {"a": torch.ones(2).to(torch.uint32)}, "uint32"),
    "quantized": (lambda: {"a": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)}, "quantized"),
    "meta": (lambda: {"a": torch.ones(2, device="meta")}, "meta"),
    "coo": (lambda: {"a": sparse(4, 4).to_sparse()}, "sparse"),
    "csr": (lambda: {"a": sparse(4, 4).to_sparse_csr()}, "sparse"),
    "expanded": (lambda: {"a": torch.ones(1).expand(10**10)}, "expanded"),
    "a checkpoint": (lambda: {"state_dict": nn.Linear(2, 2).state_dict(), "epoch": 3}, "'state_dict'"),
    "an entry more": (lambda: nn.Linear(2, 2).state_dict() | {"epoch": 3}, "epoch"),
    "none": (lambda: {"a": None}, "NoneType"),
    "a list": (lambda: [torch.ones(2)], "list"),
    "a tensor": (lambda: torch.ones(2), "Tensor"),
    "a whole module": (lambda: nn.Linear(2, 2), "state_dict"),
    "a module of one's own": (lambda: Evil(2, 2), "state_dict"),
    "numbers as names": (lambda: {0: torch.ones(2)}, "name"),
    "a name of the format": (lambda: {"__metadata__": torch.ones(2)}, "name"),
    "a surrogate": (lambda: {"\ud800": torch.ones(2)}, "name"),
    "a name of a part": (lambda: {"a::mask": torch.ones(2), "a": sparse(64, 64)}, "a::mask"),
}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def assert_equal(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert got[name].dtype == value.dtype
        assert got[name].shape == value.shape
        torch.testing.assert_close(got[name], value.detach().resolve_neg(), atol=0, rtol=0, equal_nan=True)


@pytest.mark.parametrize("name", KEPT)
def test_content_that_comes_back(name: str, tmp_path: Path) -> None:
    state, file = KEPT[name](), tmp_path / "net.pt"
    torch.save(state, file)
    assert run("inspect", file).exit_code == 0
    for option in ([], ["--dense"]):
        result = run("export", file, "--out", tmp_path / "out.safetensors", *option)
        assert result.exit_code == 0, result.stderr
        assert_equal(read(tmp_path / "out.safetensors"), state)
        with safe_open(tmp_path / "out.safetensors", "pt") as other:
            assert option or len(other.keys()) >= len(state)
    assert_equal(load_file(tmp_path / "out.safetensors"), state)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta", "ignore:.*quantize_per_tensor.*")
@pytest.mark.parametrize("name", REFUSED)
def test_content_that_is_refused(name: str, tmp_path: Path) -> None:
    build, word = REFUSED[name]
    file, out = tmp_path / "net.pt", tmp_path / "out.safetensors"
    torch.save(build(), file)
    out.write_text("an older file")
    for option in ([], ["--dense"]):
        result = run("export", file, "--out", out, *option)
        if name == "a name of a part" and option:
            assert result.exit_code == 0
            continue
        assert result.exit_code == 2
        assert len(result.stderr.strip().splitlines()) == 1
        assert word in result.stderr
        assert out.read_text() == "an older file"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["net.pt", "out.safetensors"]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_tensors_without_plain_values_are_not_saved(tmp_path: Path) -> None:
    for value in (dtensor(), nn.LazyLinear(3).weight, torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])):
        with pytest.raises(ValueError, match="a "):
            save_state({"a": value}, tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())


def test_tied_networks_load_what_is_tied(tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    save(model, tmp_path / "net.safetensors")
    load(other, tmp_path / "net.safetensors")
    assert_equal(other.state_dict(), model.state_dict())
    assert other.decoder.weight is other.encoder.weight
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["decoder.weight"] = state["again.weight"] = state["decoder.weight"] + 1
    save_state(state, tmp_path / "untied.safetensors")
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match="tied"):
        load(other, tmp_path / "untied.safetensors")
    assert_equal(other.state_dict(), before)


def test_a_model_without_memory_is_not_loaded_in_silence(tmp_path: Path) -> None:
    save(nn.Linear(2, 2), tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="meta"):
        load(nn.Linear(2, 2, device="meta"), tmp_path / "net.safetensors")


def test_legacy_files_are_named(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(FileError, match=r"PyTorch before 1\.6"):
        read_state(tmp_path / "old.pt")


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "net.pt")
    for out in (tmp_path, tmp_path / "no" / "folder", Path("/proc/net.safetensors")):
        result = run("export", tmp_path / "net.pt", "--out", out)
        assert result.exit_code == 2
        assert len(result.stderr.strip().splitlines()) == 1


def test_a_model_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "net.pt")
    for model in ("Linear", "Identity"):
        result = run("export", tmp_path / "net.pt", "--model", f"{__name__}:{model.lower()}", "--input", "1,2")
        assert result.exit_code == 2
        assert "same tensors" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert run("export", tmp_path / "net.pt", "--dense", "--values", "int8").exit_code == 2
    assert [f.name for f in tmp_path.iterdir()] == ["net.pt"]


def linear() -> nn.Module:
    return nn.Linear(2, 2)


def identity() -> nn.Module:
    return nn.Identity()
