"""Which device plays, and how many rows it takes in one forward pass."""

from __future__ import annotations

import platform
import re
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from arena.messages import UserError

if TYPE_CHECKING:
    from arena.classifiers import Classifier

_DEVICE = re.compile(r"cpu|cuda(:\d{1,4})?|mps(:0)?")
"""The devices that can play; torch knows others, some of which hold no numbers."""
_BATCH = {"cpu": 64, "cuda": 1024, "mps": 512}
CUDA_ROWS = 4096
"""The most rows of one forward pass on a GPU: the longest volley of a match."""
CPU_BYTES = 64 * 2**20
"""Bytes that the activations of one forward pass on the CPU may take. The reason is speed, not space: beyond
it, layers write to memory what would have fitted into a cache, and get their buffers from the system each
time."""


class DeviceError(UserError, ValueError):
    """A device that does not exist here: one sentence on what was found and what is allowed."""


def resolve_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` is CUDA, else MPS, else the CPU.

    Raises:
        DeviceError: if there is no such device on this machine.
    """
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(found)
    try:
        if _DEVICE.fullmatch(name):
            return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        pass
    allowed = '"auto", "cpu", "cuda", "cuda:N" or "mps", where this machine has it'
    raise DeviceError(f'there is no device "{name}" here; allowed: {allowed}')


def device_in_words(device: torch.device) -> str:
    """The device in words, for logs and model cards."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.machine()})"


def arithmetic_of(device: torch.device) -> str:
    """What decides the last bits of a device's results: a GPU's model, a CPU's vector instructions."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    if device.type == "cpu":
        return str(torch.backends.cpu.get_cpu_capability())
    return platform.machine()


def default_batch(device: torch.device) -> int:
    """Rows per forward pass if the number that fits cannot be measured."""
    return _BATCH.get(device.type, 64)


def largest_batch(classifier: Classifier) -> int:
    """Rows per forward pass of this classifier if none is given: a power of two, or the default.

    On CUDA it is the largest number up to `CUDA_ROWS` whose activations and workspaces fit into half of the
    device's memory; on the CPU the largest up to the default whose activations fit into `CPU_BYTES`. Bytes
    per row are measured as the difference between a forward of 8 rows and one of 4, by the allocator on CUDA
    (weights and other memory cancel out), by the living tensors on the CPU. Free memory and time do not
    matter, so the answer is the same on every device of a kind (docs/design.md, D7). On other devices, and
    for a classifier that cannot take 8 rows, it is the default.
    """
    device = classifier.device
    default = default_batch(device)
    if device.type == "cuda":
        room, most = torch.cuda.get_device_properties(device).total_memory // 2, CUDA_ROWS
    elif device.type == "cpu":
        room, most = CPU_BYTES, default
    else:
        return default
    _ = classifier.forward  # prepared first, so that preparing is not measured
    measure = _cuda_peak if device.type == "cuda" else _cpu_peak
    try:
        fewer, more = (measure(classifier, rows) for rows in (4, 8))
    except RuntimeError:
        return default
    per_row = (more - fewer) // 4
    if per_row <= 0:
        return default
    rows = max(1, min(most, room // per_row))
    return 1 << (rows.bit_length() - 1)


def sized(classifier: Classifier, batch: int | None) -> Classifier:
    """`classifier` with `batch` rows per forward pass, or the largest batch if that is None."""
    classifier.batch = batch or largest_batch(classifier)
    return classifier


def _cuda_peak(classifier: Classifier, rows: int) -> int:
    """Peak bytes of a forward of so many rows, after a first one has set up its workspaces."""
    x = torch.zeros(rows, *classifier.shape, device=classifier.device)
    classifier.eager(x)
    return cuda_peak(lambda: classifier.eager(x), classifier.device)


def cuda_peak(run: Callable[[], object], device: torch.device) -> int:
    """Peak bytes that `run` takes from a GPU's allocator, beyond what is taken already."""
    torch.cuda.synchronize(device)
    held: int = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    peak: int = torch.cuda.max_memory_allocated(device)
    return peak - held


def _cpu_peak(classifier: Classifier, rows: int) -> int:
    """Peak bytes of the tensors that live during a forward of so many rows."""
    x = torch.zeros(rows, *classifier.shape, device=classifier.device)
    alive = _Alive()
    with alive:
        classifier.eager(x)
    return alive.peak


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operations make, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = 0
        self._known: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch would load its compiler in order to skip it, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.bytes += size
            self.peak = max(self.peak, self.bytes)
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size
