"""C files compiled with every warning an error, and run beside PyTorch on inputs that their writer never saw."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from synaptic_pruning.export import CReport, to_c
from synaptic_pruning.export.sparse import SparseLinear
from synaptic_pruning.tasks.forecasting.models import build_model

FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZERS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
ARM = "arm-linux-gnueabihf-gcc"

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is missing")


class Recurrent(nn.Module):
    """A row-wise layer, a recurrent stack and a head.

    `start` learns the first state, `every` keeps all rows, and `skip` leaves out the first rows.
    """

    def __init__(self, layer: nn.RNNBase, *, start: bool = False, every: bool = False, skip: int = 0) -> None:
        super().__init__()
        width = (layer.proj_size or layer.hidden_size) * (2 if layer.bidirectional else 1)
        self.embed, self.layer, self.head = nn.Linear(3, layer.input_size), layer, nn.Linear(width, 2)
        self.start = nn.Parameter(torch.randn(layer.num_layers, 1, layer.hidden_size)) if start else None
        self.every, self.skip = every, skip

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.embed(x))[:, self.skip :]
        state = None if self.start is None else self.start.expand(-1, len(x), -1).contiguous()
        rows = self.layer(x, state)[0]
        if self.every:
            return self.head(rows)
        return self.head(rows[:, -1] if self.layer.batch_first else rows[-1])


class Function(nn.Module):
    """A network of one function of a Linear layer's output."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(6, 6), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.linear(x))


class Named(nn.Module):
    """Names that mean something else in C; the head reads both final states."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {"my-layer*/": nn.LSTM(3, 6, batch_first=True), "0": nn.LSTM(6, 4, batch_first=True)}
        )
        self.state, self.scratch = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(3))
        self.tanh, self.int = nn.Linear(10, 4), nn.Conv1d(1, 1, 3, padding="same", dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        rows, (h, c) = self.layers["my-layer*/"](x * self.scratch)
        last = self.layers["0"](rows * self.state)[0][:, -1]
        return self.int(self.tanh(torch.cat([h[-1] + c[0], last], 1))[:, None])[:, 0]


def sequential() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2), nn.BatchNorm1d(6), nn.ReLU(inplace=True)),
        *(nn.Conv1d(6, 4, 2, bias=False), nn.Sigmoid(), nn.BatchNorm1d(4), nn.Flatten(), nn.LayerNorm(20)),
        *(nn.Linear(20, 20), nn.BatchNorm1d(20), nn.GELU(), nn.Dropout(), nn.Linear(20, 9, bias=False), nn.Tanh()),
        *(nn.Identity(), nn.Linear(9, 5), nn.GELU("tanh"), nn.SiLU()),
    )


def mixed(x: Tensor) -> Tensor:
    """Reshaping, sums and arithmetic over a batch of one and (5, 6)."""
    a, b = x.transpose(1, 2).reshape(1, 5, 6).chunk(2, 2)
    x = torch.cat([a, b * 2 - 1, (a @ b.mT).softmax(-1) @ b], 2)
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-3).sqrt()
    return torch.stack([x.sum((0, 2)), 1 - x[0, :, 4].abs(), x.square().mean(2)[0], x.exp()[0, :, 0].neg()], 1)


def forecaster(name: str) -> nn.Module:
    return build_model(name, channels=2, length=31, horizon=3)


QUICK: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "sequential": (sequential, (1, 4, 11)),
    "gru": (lambda: Recurrent(nn.GRU(5, 8, 2, batch_first=True), start=True, every=True), (1, 7, 3)),
    # Matrices that are multiplied by eight rows at once, and a window that is no multiple of eight.
    "blocks": (lambda: Recurrent(nn.LSTM(5, 48, 3, batch_first=True), every=True), (1, 19, 3)),
}
BLOCKS = {
    "blocks_gru": (lambda: Recurrent(nn.GRU(40, 48, batch_first=True), start=True), (1, 9, 3)),
    "blocks_later": (lambda: Recurrent(nn.GRU(40, 48, batch_first=True), skip=2), (1, 13, 3)),
    "blocks_projected": (lambda: Recurrent(nn.LSTM(40, 48, 2, proj_size=40, batch_first=True)), (1, 16, 3)),
    "blocks_rnn": (lambda: Recurrent(nn.RNN(40, 48, 3, nonlinearity="relu")), (10, 1, 3)),
}
NETWORKS = (
    QUICK
    | BLOCKS
    | {
        **{
            f"our_{name}": (lambda name=name: forecaster(name), (1, 31, 2))
            for name in ("rnn", "lstm", "mlp", "patchtst")
        },
        "lstm": (lambda: Recurrent(nn.LSTM(5, 8, 2, batch_first=True)), (1, 7, 3)),
        "rnn_relu": (lambda: Recurrent(nn.RNN(5, 8, 3, nonlinearity="relu", bias=False)), (7, 1, 3)),
        "rnn_rows": (lambda: Recurrent(nn.RNN(5, 8, batch_first=True), every=True), (1, 7, 3)),
        "projected": (lambda: Recurrent(nn.LSTM(5, 8, 2, proj_size=3, batch_first=True)), (1, 7, 3)),
        "both_ways": (lambda: Recurrent(nn.GRU(5, 6, 2, bidirectional=True, batch_first=True)), (1, 7, 3)),
        "both_projected": (lambda: Recurrent(nn.LSTM(5, 6, 2, proj_size=2, bidirectional=True)), (7, 1, 3)),
        "named": (Named, (1, 7, 3)),
        "wide": (lambda: nn.Linear(300, 4), (1, 300)),
        "mixed": (lambda: Function(mixed), (1, 5, 6)),
        "encoder": (
            lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, nn.LayerNorm(8)),
            (1, 5, 8),
        ),
    }
)

STREAMING = {"lstm", "gru", "named", "our_rnn", "our_lstm", "rnn_relu", "rnn_rows", "projected", "blocks", *BLOCKS}
STREAMING -= {"blocks_later"}


def made(name: str, zeros: float) -> nn.Module:
    """The network with random norms' statistics and random zeros."""
    torch.manual_seed(0)
    model = NETWORKS[name][0]().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight *= torch.rand_like(weight) >= zeros
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return model


def write(names: list[str], folder: Path, zeros: float) -> dict[str, tuple[nn.Module, CReport]]:
    models = {name: made(name, zeros) for name in names}
    shapes = {name: NETWORKS[name][1] for name in names}
    return {name: (m, to_c(m, torch.randn(shapes[name]), folder / f"{name}.c")) for name, m in models.items()}


def library(folder: Path, files: list[Path]) -> ctypes.CDLL:
    """All files in one library: their names do not clash."""
    path = folder / "networks.so"
    subprocess.run(["gcc", *FLAGS, "-O1", "-shared", "-fPIC", *files, "-lm", "-o", path], check=True)
    return ctypes.CDLL(str(path))


def address(x: Tensor) -> ctypes.c_void_p:
    assert x.is_contiguous()
    return ctypes.c_void_p(x.data_ptr())


def check(name: str, model: nn.Module, report: CReport, compiled: ctypes.CDLL) -> None:
    shape = NETWORKS[name][1]
    for seed in range(3):
        torch.manual_seed(seed + 100)
        x = torch.randn(shape)
        with torch.no_grad():
            want = model(x)
        got = torch.full_like(want, torch.nan, memory_format=torch.contiguous_format)
        getattr(compiled, f"{name}_forward")(address(x), address(got))
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
        if report.steps:
            state, time = torch.full((report.state // 4,), torch.nan), shape.index(max(shape))
            getattr(compiled, f"{name}_reset")(address(state))
            whole = want.dim() == 3
            for t, row in enumerate(x.unbind(time)):
                got = torch.full_like(want.select(time, 0) if whole else want, torch.nan)
                getattr(compiled, f"{name}_step")(address(row.contiguous()), address(got), address(state))
                with torch.no_grad():
                    truth = want.select(time, t) if whole else model(x.narrow(time, 0, t + 1))
                torch.testing.assert_close(got, truth, atol=1e-5, rtol=1e-5)


@needs_compiler
def test_networks_compute_what_pytorch_does(tmp_path: Path) -> None:
    written = write(list(QUICK), tmp_path, 0.7)
    compiled = library(tmp_path, [report.path for _, report in written.values()])
    for name, (model, report) in written.items():
        check(name, model, report, compiled)
        assert report.steps == (name != "sequential")
        assert ("_block_" in report.path.read_text()) == (name == "blocks")


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9])
def test_every_network_dense_and_pruned_under_sanitizers(zeros: float, tmp_path: Path) -> None:
    written = write(list(NETWORKS), tmp_path, zeros)
    compiled = library(tmp_path, [report.path for _, report in written.values()])
    for name, (model, report) in written.items():
        check(name, model, report, compiled)
        assert report.steps == (name in STREAMING)
        if zeros == 0.5:
            assert ("_block_" in report.path.read_text()) == (name == "blocks" or name in BLOCKS)
        self_test(report.path, ["gcc", *FLAGS, *SANITIZERS])
    assert written["both_ways"][1].reason == "layer is bidirectional: it reads the window from its end, " \
        "which a step has not seen"  # fmt: skip


def self_test(path: Path, compiler: list[str], runner: tuple[str, ...] = ()) -> str:
    program = path.with_suffix(".exe")
    macro = f"-D{path.stem.upper()}_SELF_TEST"
    subprocess.run([*compiler, macro, path, "-lm", "-o", program], check=True)
    done = subprocess.run([*runner, program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.arm
@pytest.mark.skipif(not (shutil.which(ARM) and shutil.which("qemu-arm-static")), reason=f"{ARM} or QEMU is missing")
def test_arm_builds_pass_their_self_tests(tmp_path: Path) -> None:
    for _, report in write(list(NETWORKS), tmp_path, 0.8).values():
        assert "passed" in self_test(report.path, [ARM, *FLAGS, "-O2", "-static"], ("qemu-arm-static",))


@needs_compiler
def test_int8_weights_are_off_by_half_a_level_and_the_file_says_how_far(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 30), nn.BatchNorm1d(30), nn.Tanh(), nn.Linear(30, 3)).eval()
    with torch.no_grad():
        model[0].weight *= torch.rand(30, 40) < 0.2
        model[1].weight.normal_()
    rounded = nn.Sequential(*(nn.Linear(40, 30), model[1], nn.Tanh(), nn.Linear(30, 3))).eval()
    rounded.load_state_dict(model.state_dict())
    model.requires_grad_(False)
    rounded.requires_grad_(False)
    with torch.no_grad():
        for layer in (rounded[0], rounded[3]):  # rounded here by NumPy's rule, row by row
            for row in layer.weight:
                level = row.abs().max() / 127
                row.copy_(torch.from_numpy((row / level).numpy().round()) * level)
    x = torch.randn(1, 40)
    report = to_c(model, x, tmp_path / "net.c", values="int8")
    alive = int((rounded[0].weight != 0).sum())
    assert report.flash == alive * 2 + 30 * 2 + 30 * 4 * 2 + 90 + 3 * 4 * 2
    assert report.error >= float((model(x) - rounded(x)).abs().max()) > 0
    assert f"int8: outputs differ by up to {report.error:.1e}" in str(report)
    assert "passed" in self_test(report.path, ["gcc", *FLAGS])
    compiled, x, got = library(tmp_path, [report.path]), torch.randn(1, 40), torch.empty(1, 3)
    compiled.net_forward(address(x), address(got))
    torch.testing.assert_close(got, rounded(x), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"values must be .*, not 'int4'"):
        to_c(model, x, tmp_path / "net.c", values="int4")  # type: ignore[arg-type]


@needs_compiler
@pytest.mark.slow
def test_every_network_in_int8(tmp_path: Path) -> None:
    for name in NETWORKS:
        model = made(name, 0.3)
        report = to_c(model, torch.randn(NETWORKS[name][1]), tmp_path / f"{name}.c", values="int8")
        assert "passed" in self_test(report.path, ["gcc", *FLAGS, *SANITIZERS])
        assert 0 < report.error < 0.1


@needs_compiler
def test_the_self_test_fails_on_a_wrong_weight(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.5, 2.0, 4.0], [1.0, 1.0, 1.0]]))
    path = to_c(model, torch.ones(1, 3), tmp_path / "net.c").path
    self_test(path, ["gcc", *FLAGS])
    text = path.read_text()
    assert text.count("0.5f, 1.0f, 2.0f") == 1
    for wrong in ("2.001f", "NAN"):
        path.write_text(text.replace("0.5f, 1.0f, 2.0f", f"{wrong}, 1.0f, 2.0f"))
        with pytest.raises(AssertionError, match="FAILED"):
            self_test(path, ["gcc", *FLAGS])


def test_sizes_are_those_of_the_weights_left_and_files_the_same_every_time(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 2))
    with torch.no_grad():
        model[0].weight[:, 4:] = 0
    x = torch.randn(5, 40)
    report = to_c(model, x, tmp_path / "net.c")
    # Layer 0: 120 values and columns, 30 counts, 30 biases; layer 2 is dense: 60 weights, 2 biases.
    assert report.flash == 120 * 5 + 30 * 2 + 30 * 4 + 60 * 4 + 2 * 4
    assert (report.state, report.steps, report.reason) == (0, False, "")
    assert [(p.form, p.alive) for p in report.products] == [("sparse", 120), ("dense", 60)]
    assert report.scratch == (30 + 30) * 4, "outputs of layer 2 lie where those of layer 0 were"
    assert f"flash {report.flash} bytes" in str(report)
    header = report.header.read_text()
    assert f"#define NET_FLASH_BYTES {report.flash} " in header
    assert "#define NET_INPUTS 40 " in header, "one sample of the five"
    text = report.path.read_text()
    assert to_c(model, x, tmp_path / "net.c") == report
    assert (report.path.read_text(), report.header.read_text()) == (text, header)


class Started(nn.Module):
    """A first state that is computed of the first row."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.layer = nn.Linear(3, 4), nn.GRU(3, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, self.start(x[:, 0])[None])[0][:, -1]


@needs_compiler
def test_a_start_that_depends_on_the_window_leaves_no_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Started()
    report = to_c(model, torch.randn(1, 5, 3), tmp_path / "net.c")
    assert not report.steps
    assert report.reason == "layer (GRU): gru starts from a state that depends on the input"
    x, got = torch.randn(1, 5, 3), torch.full((1, 4), torch.nan)
    library(tmp_path, [report.path]).net_forward(address(x), address(got))
    torch.testing.assert_close(got, model(x), atol=1e-5, rtol=1e-5)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Shortcut(nn.Module):
    """An in-place ReLU whose input is read again."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.relu = nn.Linear(6, 6), nn.ReLU(inplace=True)
        nn.init.constant_(self.linear.bias, -5.0)  # of positive numbers a ReLU changes nothing

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        return self.relu(x) + x


LINEAR = nn.Linear(6, 6)
REFUSED: dict[str, tuple[nn.Module, str]] = {
    "conv2d": (nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 1, 1)), r"1 \(Conv2d\): conv2d calls aten"),
    "branch": (Branching(), "torch.export fails with"),
    "two outputs": (Function(lambda x: (x, x)), "must return one tensor"),
    "integers": (Function(lambda x: x.argmax(1)), "computes torch.int64"),
    "in place": (Function(lambda x: x.mul_(2)), "Function: mul_ changes a tensor in place"),
    "seen in place": (Shortcut(), "when traced, outputs differed by"),
    "masked": (
        Function(lambda x: nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=x @ x.T)),
        "attention with a mask",
    ),
    "power": (Function(lambda x: x**3), "raises to a power other than 2"),
    "infinite": (Function(lambda x: x + torch.inf), "finite numbers only"),
    "float64": (nn.Linear(6, 6).double(), r"weight is torch.float64; give model.float\(\)"),
    "compact": (nn.Sequential(SparseLinear(LINEAR)), r"holds SparseLinear \(0\); give the model before compact"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_written_is_refused_by_name(name: str, tmp_path: Path) -> None:
    model, message = REFUSED[name]
    (tmp_path / "net.c").write_text("older")
    with pytest.raises(ValueError, match=message):
        to_c(model, torch.randn(1, 6), tmp_path / "net.c")
    assert [path.name for path in tmp_path.iterdir()] == ["net.c"]
    assert (tmp_path / "net.c").read_text() == "older"


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    x = torch.randn(1, 6)
    for name in ("net.cpp", "2net.c", "my-net.c"):
        with pytest.raises(ValueError, match="path must end in a name that C takes"):
            to_c(LINEAR, x, tmp_path / name)
    with pytest.raises(ValueError, match="in a folder that exists"):
        to_c(LINEAR, x, tmp_path / "none" / "net.c")
    with pytest.raises(ValueError, match="one float32 tensor"):
        to_c(LINEAR, (x, x), tmp_path / "net.c")
    with pytest.raises(ValueError, match="example_input must be something the model can run on"):
        to_c(LINEAR, torch.randn(1, 5), tmp_path / "net.c")
    assert not list(tmp_path.iterdir())
