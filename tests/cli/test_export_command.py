import re
from pathlib import Path

import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner, Result

from synaptic_pruning.cli import app
from synaptic_pruning.export import FileError, inspect_file, read, save


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.LSTM(4, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x)[0][:, -1])


def build() -> nn.Module:
    return Network()


def pruned() -> nn.Module:
    torch.manual_seed(0)
    model = build()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= torch.rand_like(parameter) >= 0.9
        model.body.weight_hh_l0.zero_()
        model.body.weight_hh_l0[:, 1:] = torch.rand(128, 31)
        model.body.weight_ih_l0[5::32] = 0
    return model


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(pruned().state_dict(), tmp_path / "net.pt")
    return tmp_path / "net.pt"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_inspect_counts_zeros_and_pruned_units(file: Path) -> None:
    rows = {row.name: row for row in inspect_file(file).rows}
    hidden = rows["body.weight_hh_l0"]
    assert (hidden.weights, hidden.alive, hidden.pruned_rows, hidden.pruned_columns) == (128 * 32, 128 * 31, 0, 1)
    weight = pruned().body.weight_ih_l0.view(4, 32, 4)
    assert rows["body.weight_ih_l0"].pruned_rows == int((weight == 0).all(2).all(0).sum()) >= 1
    shown = run("inspect", file)
    assert shown.exit_code == 0
    assert re.search(r"body.weight_hh_l0\s+128x32\s+3.1%\s+0\s+1\n", shown.output)


def test_inspect_tells_the_size_save_will_write(file: Path, tmp_path: Path) -> None:
    save(pruned(), tmp_path / "packed.safetensors")
    report = inspect_file(file)
    written = (tmp_path / "packed.safetensors").stat().st_size
    assert 0 <= written - report.packed_bytes < 1500, "the header comes on top"
    again = inspect_file(tmp_path / "packed.safetensors")
    assert again.rows == report.rows


def test_export_packs_and_unpacks(file: Path, tmp_path: Path) -> None:
    packed, plain = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert "smaller" in run("export", file, "--out", packed).output
    assert run("export", packed, "--out", plain, "--dense").exit_code == 0
    want = pruned().state_dict()
    for path in (packed, plain):
        assert all(tensor.equal(want[name]) for name, tensor in read(path).items())
    assert plain.stat().st_size > packed.stat().st_size


def test_export_times_and_writes_onnx(file: Path, tmp_path: Path) -> None:
    onnx = tmp_path / "net.onnx"
    names = ("--input-names", "window", "--output-names", "forecast")
    result = run("export", file, "--model", f"{__name__}:build", "--input", "2,6,4", "--onnx", onnx, *names)
    assert result.exit_code == 0, result.output
    assert "whole network" in result.output
    x = torch.randn(5, 6, 4)
    session = onnxruntime.InferenceSession(onnx)
    got = session.run(["forecast"], {"window": x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(got), pruned()(x).detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "2,6,4"], "need both"),
        (["--input-names", "window"], "--onnx"),
        (["--model", f"{__name__}:build", "--input", "2,x"], "whole numbers"),
        (["--model", f"{__name__}:nothing", "--input", "2,6,4"], "module:function"),
        (["--model", "pathlib:Path", "--input", "2,6,4"], "torch.nn.Module"),
    ],
)
def test_bad_options_are_named(file: Path, arguments: list[str], message: str) -> None:
    result = run("export", file, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_file_itself_is_never_overwritten(tmp_path: Path) -> None:
    save(pruned(), tmp_path / "a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    assert run("export", tmp_path / "a.safetensors", "--out", tmp_path / "a.safetensors").exit_code == 2
    assert (tmp_path / "a.safetensors").read_bytes() == before


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("evil"),))  # type: ignore[return-value]


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(FileError, match="state dict"):
        inspect_file(tmp_path / "evil.pt")
    (tmp_path / "text").write_text("no weights here, only some text")
    assert run("inspect", tmp_path / "text").exit_code == 2
    assert not (tmp_path / "evil").exists()


def test_every_network_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "networks").mkdir()
    for name in ("a", "b"):
        layer = nn.Linear(64, 64)
        with torch.no_grad():
            layer.weight[:, 6:] = 0
        save_file(layer.state_dict(), tmp_path / "networks" / f"{name}.safetensors")
    for _ in range(2):  # what it wrote itself is no network of the run
        result = CliRunner().invoke(app, ["export", str(tmp_path)])
        assert result.exit_code == 0, result.output
    assert sorted(f.name for f in (tmp_path / "networks").iterdir()) == [
        "a.packed.safetensors",
        "a.safetensors",
        "b.packed.safetensors",
        "b.safetensors",
    ]
    empty = CliRunner().invoke(app, ["export", str(tmp_path / "networks")])
    assert empty.exit_code == 2
    assert "holds no networks" in empty.stderr


@pytest.mark.slow
def test_export_writes_c_that_says_its_sizes(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "lstm.c"
    how = ("--model", f"{__name__}:build", "--input", "1,6,4", "--c", target)
    done = run("export", file, *how)
    assert done.exit_code == 0, done.output
    flash = re.search(r"#define LSTM_FLASH_BYTES (\d+) ", target.with_suffix(".h").read_text())
    assert flash is not None
    assert f"{target}: lstm_forward, lstm_step; flash {flash[1]} bytes" in done.output
    first = target.read_text()
    run("export", file, *how)
    assert target.read_text() == first, "the example is the same every time"
    rounded = run("export", file, *how, "--values", "int8")
    assert "int8: outputs differ by up to" in rounded.output
    assert "static const int8_t lstm_" in target.read_text()


def test_export_refuses_bad_c_files_before_any_work(file: Path, tmp_path: Path) -> None:
    refused = run("export", file, "--c", tmp_path / "net.c")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "--input, --onnx and --c need both --model and --input." in refused.stderr
    how = ("--model", f"{__name__}:build", "--input", "1,6,4")
    for name in ("2net.c", "none/net.c"):
        refused = run("export", file, *how, "--c", tmp_path / name)
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
        assert refused.stderr.startswith("--c: path must")
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]
