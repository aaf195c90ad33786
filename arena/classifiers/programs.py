"""Programs: networks and weights in one file, whose Python code is never run."""

from __future__ import annotations

import ast
import io
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from arena.classifiers.errors import ClassifierError
from arena.classifiers.exported import DENIED, read_exported
from arena.classifiers.files import check_content, read_archive
from arena.classifiers.onnx import OnnxSession
from arena.messages import first_line

TORCHSCRIPT = (".pt", ".ts", ".torchscript")
PROGRAMS = (*TORCHSCRIPT, ".pt2", ".onnx")
_NAMESPACES = ("aten", "quantized", "torchvision")
_PRIMITIVES = (
    *(
        "NumToTensor",
        "RaiseException",
        "abs",
        "data",
        "device",
        "dtype",
        "index",
        "itemsize",
        "layout",
        "max",
    ),
    *("is_cpu", "is_cuda", "is_mkldnn", "is_mps", "is_nested", "is_quantized", "is_sparse", "is_xpu", "min"),
    *("nbytes", "requires_grad", "tolist", "type", "unchecked_unwrap_optional"),
)
_SCRIPT = ("data.pkl", "constants.pkl", "version", "byteorder")
_SCRIPT_FOLDERS = ("data/", "constants/", "code/", ".data/")
_PICKLED = ("collections", "torch", "torch._utils", "torch.jit._pickle")


class Program(nn.Module):
    """A network that was read from a file: images [n,C,H,W] float32 -> logits [n,K].

    Attributes:
        takes: the shape of its images, as far as the file declares it.
        batch: the fewest and the most rows that one call of `network` takes; shorter batches are filled up
            with copies of their last row, longer ones cut.
        differentiable: whether torch can differentiate through it.
        card, remarks: the file's metadata, and what a user should know about it.
    """

    def __init__(
        self,
        network: nn.Module,
        path: Path,
        sha: str,
        *,
        takes: tuple[int | None, ...] = (None, None, None),
        batch: tuple[int, int | None] = (1, None),
        differentiable: bool = True,
        card: Mapping[str, str] | None = None,
        remarks: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.network, self.file, self.sha = network, path.name, sha
        self.takes, self.batch, self.differentiable = takes, batch, differentiable
        self.card, self.remarks = dict(card or {}), remarks
        self.eval().requires_grad_(False)  # before any copy: one of a script with gradients has no leaves

    def extra_repr(self) -> str:
        return f"sha={self.sha}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.differentiable and x.requires_grad and torch.is_grad_enabled():
            raise ClassifierError(
                f"classifier {self.file} gives no gradients: a white box (knowledge of the weights) needs a "
                f"network in torch"
            )
        least, most = self.batch
        pieces = [self._piece(piece, least) for piece in (torch.split(x, most) if most else (x,))]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _piece(self, x: Tensor, least: int) -> Tensor:
        n = len(x)
        filled = x if n >= least else torch.cat([x, x[-1:].expand(least - n, *x.shape[1:])])
        logits = self.network(filled)
        if not isinstance(logits, Tensor):
            raise ClassifierError(f"{self.file} must answer logits [n,K], not a {type(logits).__name__}")
        return logits if n >= least else logits[:n]


def is_program(network: str) -> bool:
    """Whether a network's name is that of a program file."""
    return Path(network).suffix.lower() in PROGRAMS


def read_program(path: Path, device: torch.device) -> Program:
    """Read a program file; `device` is where ONNX runs, other programs can be moved to any device.

    Raises ClassifierError if the file is damaged, is no such program, or would do more than compute.
    """
    check_content(path, "program")
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        session = OnnxSession(path, device)
        return Program(
            session,
            path,
            session.sha,
            takes=session.takes,
            batch=session.batch,
            differentiable=False,
            card=session.card,
            remarks=session.remarks,
        )
    if suffix == ".pt2":
        exported = read_exported(path)
        return Program(exported.network, path, exported.sha, takes=exported.takes, batch=exported.batch)
    network, sha = _torchscript(path)
    return Program(network, path, sha)


def _torchscript(path: Path) -> tuple[nn.Module, str]:
    """A TorchScript archive: its code is checked, and only the bytes that were checked are loaded."""
    archive = read_archive(path, "program")
    if "archive_format" in archive.members:
        raise ClassifierError(f"program {path} is one of torch.export: its name must end in .pt2")
    if "constants.pkl" not in archive.members:
        raise ClassifierError(
            f"program {path} is no TorchScript: it holds weights alone; name it as the weights, and what "
            f"they belong to as the network"
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as checked:
        for name, data in archive.members.items():
            if name.endswith(".debug_pkl") or not (name in _SCRIPT or name.startswith(_SCRIPT_FOLDERS)):
                continue
            if name.startswith("code/"):
                _check_code(data, name, path)
            elif name.endswith(".pkl"):
                _check_pickle(data, name, path)
            checked.writestr(f"checked/{name}", data)
    buffer.seek(0)
    try:
        network = torch.jit.load(buffer, map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # an untrusted file: any exception may come
        raise ClassifierError(f"program {path} cannot be read as TorchScript: {first_line(error)}") from error
    assert isinstance(network, nn.Module)
    return network, archive.sha


def _check_pickle(data: bytes, member: str, path: Path) -> None:
    """ClassifierError unless the types that a pickle names are tensors' and the program's own."""
    try:
        named = [str(arg) for code, arg, _ in pickletools.genops(data) if code.name == "GLOBAL"]
    except Exception as error:  # an untrusted file
        raise ClassifierError(f"program {path}: {member} is no pickle: {first_line(error)}") from error
    for module, name in (pair.split(" ", 1) for pair in named):
        whole = f"{module}.{name}"
        own = whole.startswith("__torch__.") and not whole.startswith("__torch__.torch.classes")
        if not own and module not in _PICKLED:
            raise ClassifierError(
                f"program {path} asks for {whole} in {member}, which is no part of a network: it is not read"
            )


def _check_code(data: bytes, member: str, path: Path) -> None:
    """ClassifierError unless the code only computes: operators that reach files, processes or classes of
    other libraries are as dangerous as a pickle."""
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ClassifierError(f"program {path}: {member} is no TorchScript: {first_line(error)}") from error
    for name in _used(tree):
        head, *rest = name.split(".")
        allowed = {
            "torch": len(rest) == 1 and not DENIED.fullmatch(rest[0]),
            "ops": len(rest) == 2
            and (rest[1] in _PRIMITIVES if rest[0] == "prim" else rest[0] in _NAMESPACES)
            and not DENIED.fullmatch(rest[1]),
            "__torch__": len(rest) >= 1 and rest[:2] != ["torch", "classes"],
        }
        if not allowed.get(head, not head.startswith("rpc_")):
            raise ClassifierError(
                f"program {path} asks for {name} in {member}, which is no computation on tensors: it is "
                f"not read"
            )


def _used(tree: ast.AST) -> Iterator[str]:
    """The dotted names of a tree, each as long as it is written."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        parts: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            yield ".".join([inner.id, *reversed(parts)])
        else:
            waiting += ast.iter_child_nodes(inner if parts else node)
