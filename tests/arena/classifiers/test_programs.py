"""TorchScript, and what all program files have in common."""

from __future__ import annotations

import copy
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arena.classifiers import Classifier, ClassifierError
from arena.classifiers.programs import Program, is_program, read_program

CPU = torch.device("cpu")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


class Net(nn.Module):
    """Control flow, an interpolation (whose code raises), BatchNorm and Dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout())
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] > 8:
            x = nn.functional.interpolate(x, size=[8, 8], mode="bilinear")
        logits: Tensor = self.head(self.body(x).mean(dim=(2, 3)))
        return logits


def images(n: int, side: int = 8) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(n))


@pytest.fixture(scope="session")
def net() -> nn.Module:
    torch.manual_seed(1)
    return Net().eval()


@pytest.fixture(scope="session")
def script(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "net.pt"
    torch.jit.script(net).save(str(path))  # type: ignore[no-untyped-call]
    return path


def refused(path: Path, told: str) -> None:
    with pytest.raises(ClassifierError, match=told) as caught:
        read_program(path, CPU)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def rewritten(path: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(path) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"net/{name}", data)
    return target


@pytest.mark.parametrize("name", ["net.pt", "net.ts", "net.torchscript", "NET.PT"])
def test_scripts_answer_as_their_network(net: nn.Module, script: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(script.read_bytes())
    program = read_program(path, CPU)
    for x in (images(3), images(2, side=16)):
        assert torch.allclose(program(x), net(x), atol=1e-6)
    classifier = Classifier.of(program, sample=images(1))
    assert torch.allclose(classifier(images(5)), net(images(5)), atol=1e-6)
    x = images(2).requires_grad_()
    classifier.differentiable(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.any()


def test_traces_and_training_mode(net: nn.Module, tmp_path: Path) -> None:
    """What was saved in training mode answers in eval mode."""
    torch.jit.trace(net, images(2)).save(str(tmp_path / "t.pt"))  # type: ignore[no-untyped-call]
    torch.jit.script(copy.deepcopy(net).train()).save(str(tmp_path / "s.pt"))  # type: ignore[no-untyped-call]
    for name in ("t.pt", "s.pt"):
        classifier = Classifier.of(read_program(tmp_path / name, CPU), sample=images(1))
        assert torch.allclose(classifier(images(5)), net(images(5)), atol=1e-6)


def test_scripts_move_as_modules(net: nn.Module, script: Path) -> None:
    moved = copy.deepcopy(read_program(script, CPU)).to(torch.float64)
    assert torch.allclose(moved(images(3).double()).float(), net(images(3)), atol=1e-6)


def test_the_file_is_in_the_fingerprint(script: Path, tmp_path: Path) -> None:
    def sha(path: Path) -> str:
        return Classifier.of(read_program(path, CPU), sample=images(1)).sha

    other = rewritten(script, tmp_path / "net.pt", lambda members: members.update({"extra/x": b"1"}))
    assert sha(script) == sha(script)
    assert sha(other) != sha(script)


@pytest.mark.parametrize("member", ["data.pkl", "constants.pkl"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_malicious_pickles_run_nothing(
    script: Path, tmp_path: Path, bait: Any, member: str, protocol: int
) -> None:
    data = pickle.dumps(bait, protocol)
    path = rewritten(script, tmp_path / "m.pt", lambda members: members.update({member: data}))
    refused(path, rf"asks for posix\.mkdir in {member}, .* it is not read|cannot be read as TorchScript: ")


def test_pickles_of_no_use_are_never_opened(script: Path, tmp_path: Path, bait: Any) -> None:
    names = ("traced_inputs.pkl", "extra/x.pkl", "code/__torch__.py.debug_pkl", "bytecode.pkl", "other.pkl")
    junk = {name: pickle.dumps(bait) for name in names}
    path = rewritten(script, tmp_path / "m.pt", lambda members: members.update(junk))
    assert read_program(path, CPU)(images(2)).shape == (2, 5)


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ('y = torch.from_file("{}", True, 8)', r"torch\.from_file"),
        ('torch.save(x, "{}")', r"torch\.save"),
        ('ops.aten.save(x, "{}")', r"ops\.aten\.save"),
        ("y = ops.aten._sparse_coo_tensor_unsafe(x, x, [2])", r"ops\.aten\._sparse_coo_tensor_unsafe"),
        ('ops.inductor.load("{}")', r"ops\.inductor\.load"),
        ("ops.prim.PythonOp(x)", r"ops\.prim\.PythonOp"),
        ("ops.prim.rpc_sync(x)", r"ops\.prim\.rpc_sync"),
        ("y = torch", "torch"),
        ("y = ops", "ops"),
        ('y = getattr(torch, "save")', "torch"),
        ('y = getattr(ops.aten, "save")', r"ops\.aten"),
        ("y = __torch__.torch.classes.inductor.Runner()", r"__torch__\.torch\.classes\.inductor\.Runner"),
        ("rpc_sync(x)", "rpc_sync"),
    ],
)
def test_code_that_reaches_beyond_tensors_is_refused(
    script: Path, tmp_path: Path, line: str, asked: str
) -> None:
    def change(members: dict[str, bytes]) -> None:
        name = next(name for name, data in members.items() if b"def forward" in data and b"head" in data)
        head, colon, body = members[name].decode().partition("-> Tensor:\n")
        assert colon
        members[name] = f"{head}{colon}    {line.format(tmp_path / 'touched')}\n{body}".encode()

    refused(rewritten(script, tmp_path / "m.pt", change), rf"asks for {asked} in code/.* it is not read")
    assert not (tmp_path / "touched").exists()


def test_torchs_own_reader_would_write_a_file(tmp_path: Path) -> None:
    """Why code is looked through: the last test's first lines are no fancy."""

    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch.ops.aten.save(x, "touched.here")
            return x

    path = tmp_path / "w.pt"
    torch.jit.script(Writes()).save(str(path))  # type: ignore[no-untyped-call]
    refused(path, r"asks for (ops\.aten|torch)\.save")


@pytest.mark.parametrize(
    "pair", ["__torch__.torch.classes.inductor\nRunner", "torch.distributed.rpc\nPyRRef"]
)
def test_classes_of_other_libraries_are_refused(script: Path, tmp_path: Path, pair: str) -> None:
    data = b"\x80\x02c" + pair.encode() + b"\n)\x81."
    path = rewritten(script, tmp_path / "m.pt", lambda members: members.update({"data.pkl": data}))
    refused(path, rf"asks for {pair.replace(chr(10), '.')} in data.pkl")


def test_a_damaged_script_is_told(script: Path, tmp_path: Path) -> None:
    path, content = tmp_path / "d.pt", script.read_bytes()
    for broken, told in (
        (content[:-200], "cut short, damaged or no such file: "),
        (content.replace(b"\x80\x02c__torch__", b"\x80\x02c__tarch__", 1), "Bad CRC-32"),
        (b"", "is empty"),
        (b"<html></html>", "is a web page"),
        (b"noise" * 100, "File is not a zip file"),
    ):
        path.write_bytes(broken)
        refused(path, told)
    change = rewritten(script, path, lambda members: members.update({"code/__torch__.py": b"def f(:"}))
    refused(change, r"code/__torch__\.py is no TorchScript")


def test_other_archives_are_told(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "is no TorchScript: it holds weights alone; name it as the weights")
    with zipfile.ZipFile(tmp_path / "e.pt", "w") as archive:
        archive.writestr("e/archive_format", "pt2")
    refused(tmp_path / "e.pt", r"is one of torch\.export: its name must end in \.pt2")


@pytest.mark.parametrize(
    ("rows", "batch", "calls"),
    [
        (1, (1, None), [1]),
        (9, (1, None), [9]),
        (3, (4, 4), [4]),
        (4, (4, 4), [4]),
        (9, (4, 4), [4, 4, 4]),
        (1, (2, 5), [2]),
        (11, (2, 5), [5, 5, 2]),
    ],
)
def test_batches_are_cut_and_filled_up(rows: int, batch: tuple[int, int | None], calls: list[int]) -> None:
    seen: list[int] = []

    class Rows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return x.flatten(1)

    x = images(rows)
    assert torch.equal(Program(Rows(), Path("p.pt2"), "00", batch=batch)(x), x.flatten(1))
    assert seen == calls


def test_gradients_where_there_are_none_are_told() -> None:
    program = Program(nn.Flatten(), Path("p.onnx"), "00", differentiable=False)
    with pytest.raises(
        ClassifierError, match=r"p\.onnx gives no gradients: a white box .* a network in torch"
    ):
        program(images(1).requires_grad_())
    with torch.no_grad():
        assert program(images(1).requires_grad_()).shape == (1, 192)


def test_answers_that_are_no_tensor_are_told() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(ClassifierError, match=r"p\.pt must answer logits \[n,K\], not a tuple"):
        Program(Pair(), Path("p.pt"), "00")(images(1))


def test_programs_are_told_by_their_names() -> None:
    for name in ("a.pt", "a.pt2", "x/y.onnx", "a.TS", "a.torchscript"):
        assert is_program(name)
    for name in ("resnet20", "a.b:c", "timm:resnet18.a1_in1k", "w.pth", "w.safetensors"):
        assert not is_program(name)
