"""The forward pass that a classifier really runs: a copy of its network, prepared for speed."""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from arena.classifiers.keyed import draws_for_rows
from arena.classifiers.threads import computing_threads, multiply_adds, threads_for
from arena.messages import in_short
from arena.modes import own_modes

Precision = Literal["float32", "tf32", "bf16"]
TOLERANCE: dict[Precision, float] = {"float32": 1e-4, "tf32": 1e-2, "bf16": 0.1}
"""How far a prepared copy's logits may be from the plain module's, relative to the sample's largest."""
SAMPLE = 8
"""Rows of the sample that a prepared copy is checked on."""
_SIZES = 64  # compiled sizes of one network that dynamo keeps; its own limit is 8
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
_FUSED = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))


@dataclass(frozen=True, eq=False)
class Forward:
    """Images [n,C,H,W] float32 -> logits [n,K] float32, under inference_mode.

    Attributes:
        module: what runs: the classifier's own module, or a copy of it.
        device: where it runs.
        precision: of convolutions and matrix products.
        steps: what was done to the copy, in order: "fused" (BatchNorm into convolutions), "channels-last",
            "tf32" or "bf16", "compiled".
        remarks: what was left out and why, one clause each.
        multiply_adds: of one row, in convolutions, matrix products and attention; 0 if not counted.
    """

    module: nn.Module
    device: torch.device
    precision: Precision = "float32"
    steps: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    multiply_adds: float = 0
    compiled: Compiled | None = field(default=None, repr=False)
    watch: Watch | None = field(default=None, repr=False)

    @property
    def current(self) -> bool:
        """Whether the module that was copied is unchanged."""
        return self.watch is None or self.watch.unchanged()

    def __call__(self, x: Tensor, most: int | None = None) -> Tensor:
        """Logits of at most `most` rows; a compiled copy is given no more than `most`, padding counted."""
        with _arithmetic(self.device, self.precision), torch.inference_mode():
            if self.compiled is not None:
                return self.compiled(x, most)
            return self._plain(x)

    def threads(self, rows: int, most: int | None = None) -> int:
        """Threads of a pass of so many rows on the CPU, padding counted; 1 on other devices."""
        if self.device.type != "cpu":
            return 1
        return threads_for(self.multiply_adds * padded(rows, most))

    def after(self, step: str, **changes: Any) -> Forward:
        """This forward after one more step."""
        return replace(self, steps=(*self.steps, step), **changes)

    def eager(self, x: Tensor) -> Tensor:
        """The same logits without compilation, for measuring memory."""
        with _arithmetic(self.device, self.precision), torch.inference_mode():
            return self._plain(x)

    def _plain(self, x: Tensor) -> Tensor:
        if "channels-last" in self.steps:
            x = x.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.module(x)
        return logits


def check_precision(precision: str, device: torch.device) -> None:
    """Raises ValueError for an unknown precision, or one that this device does not support."""
    if precision not in get_args(Precision):
        allowed = ", ".join(f'"{name}"' for name in get_args(Precision))
        raise ValueError(f'there is no precision "{precision}"; allowed: {allowed}')
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f'precision "tf32" is for CUDA devices; found {device}: use "float32" or "bf16"')


@own_modes()
def prepare_forward(
    module: nn.Module,
    *,
    shape: tuple[int, int, int],
    device: torch.device,
    precision: Precision = "float32",
    compile: bool = False,
) -> Forward:
    """The fastest forward of `module` [in eval mode, frozen, on `device`] that answers as it does.

    BatchNorm is fused into the convolutions before it if torch.fx can trace the network; convolutional
    networks are laid out channels-last if that is faster (on the CPU; on a GPU only in tf32 and bf16, when
    tensor cores are used). TorchScript, exported programs and functions run as they are.

    Each step's copy is compared with the plain module on 8 fixed images of noise: the labels must be the same
    (in float32), a logit may differ by `TOLERANCE` of the sample's largest, and the same logits must be
    non-finite. A step that fails or differs is left out with a remark. All steps are left out if the module
    answers the same images differently from call to call, or if hooks listen to it.

    On the CPU the multiply-adds are counted in a pass of one row through a separate copy.
    """
    sample = torch.rand(SAMPLE, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        plain = Forward(module, device)
        if device.type == "cpu":
            plain = replace(plain, multiply_adds=multiply_adds(module, sample[:1]))
        with computing_threads(plain.threads(SAMPLE)):
            return _prepared(plain, sample, precision, compile)


def _prepared(plain: Forward, x: Tensor, precision: Precision, compile: bool) -> Forward:
    """`plain` after the steps that keep its answers to `x`."""
    module = plain.module
    steps = _steps(module, plain.device, precision, compile)
    if not steps:
        return plain
    watch = Watch(module)
    if draws_for_rows(module):
        return replace(plain, watch=watch, remarks=("runs as it is: its layers draw for each row",))
    if any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules()):
        return replace(plain, watch=watch, remarks=("runs as it is: hooks listen to its layers",))
    try:
        reference = plain(x)
        steady = torch.allclose(plain(x), reference, rtol=0, atol=0, equal_nan=True)
    except Exception:
        return plain  # the caller's own call will report the error
    if not steady:
        return replace(plain, remarks=("runs as it is: its answers to the same images vary",))
    return replace(_best(plain, steps, x, reference), watch=watch)


PreparationStep = Callable[[Forward], Forward]


def _best(plain: Forward, steps: dict[str, PreparationStep], x: Tensor, reference: Tensor) -> Forward:
    """`plain` after the ones of `steps` that keep its answers."""
    best = plain
    for name, step in steps.items():
        try:
            candidate = step(best)
            flaw = None if candidate is best else _difference(candidate(x), reference, candidate.precision)
        except Exception as error:
            flaw = in_short(error)
        best = candidate if flaw is None else replace(best, remarks=(*best.remarks, f"not {name}: {flaw}"))
    return best


def _steps(
    module: nn.Module, device: torch.device, precision: Precision, compile: bool
) -> dict[str, PreparationStep]:
    """The steps to try, in order."""
    layers = list(module.modules())
    steps: dict[str, PreparationStep] = {}
    if any(isinstance(layer, _BatchNorm) for layer in layers):
        steps["fused"] = fused
    # cuDNN's plain float32 kernels are no faster in channels-last, and some are slower.
    pays = device.type == "cpu" or (device.type == "cuda" and precision != "float32")
    if pays and any(isinstance(layer, nn.Conv2d) for layer in layers):
        steps["channels-last"] = channels_last
    if precision == "tf32":
        steps["tf32"] = lambda forward: forward.after("tf32", precision="tf32")
    if precision == "bf16":
        steps["bf16"] = bf16
    if compile:
        steps["compiled"] = compiled
    return steps


def fused(forward: Forward) -> Forward:
    """BatchNorm fused into convolutions that nothing else uses; without such, `forward` itself."""
    net = fx.symbolic_trace(copy.deepcopy(forward.module))
    layers = dict(net.named_modules())
    calls = Counter(node.target for node in net.graph.nodes if node.op == "call_module")
    count = len(net.graph.nodes)
    for node in list(net.graph.nodes):
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or {node.op, before.op} != {"call_module"}:
            continue
        convolution, norm = layers[str(before.target)], layers[node.target]
        alone = calls[before.target] == 1 and len(before.users) == 1
        if alone and (type(convolution), type(norm)) in _FUSED:
            net.add_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            net.graph.erase_node(node)
    if len(net.graph.nodes) == count:
        return forward
    net.delete_all_unused_submodules()
    net.recompile()
    return forward.after("fused", module=net)


def channels_last(forward: Forward) -> Forward:
    """Weights and images with the channels innermost."""
    module: Any = copy.deepcopy(forward.module)  # torch's annotations of `to` leave memory_format out
    return forward.after("channels-last", module=module.to(memory_format=torch.channels_last))


def bf16(forward: Forward) -> Forward:
    """Autocast, with its weights cast once instead of in every pass."""
    module = copy.deepcopy(forward.module)
    for layer in module.modules():
        if type(layer).__module__.startswith("torch.nn.") and isinstance(layer, _WEIGHTED):
            layer.to(torch.bfloat16)
    return forward.after("bf16", module=module, precision="bf16")


def compiled(forward: Forward) -> Forward:
    """Through torch.compile, batches padded to powers of two."""
    layout = torch.channels_last if "channels-last" in forward.steps else torch.contiguous_format
    return forward.after("compiled", compiled=Compiled(forward.module, forward.device, layout))


def _difference(found: Tensor, reference: Tensor, precision: Precision) -> str | None:
    """How logits differ from those of the plain module, if by too much."""
    found, reference = found.float(), reference.float()
    finite = reference.isfinite()
    scale = reference[finite].abs().max().item() if finite.any() else 0.0
    if found.shape != reference.shape or not torch.equal(found.isfinite(), finite):
        return "its answers have another form"
    if not torch.allclose(found, reference, rtol=0, atol=TOLERANCE[precision] * scale, equal_nan=True):
        error = (found - reference)[finite].abs().max().item() if finite.any() else math.nan
        return f"its logits differ by {error:.2g} where the largest is {scale:.2g}"
    rows = finite.all(dim=1)
    if precision == "float32" and not torch.equal(found.argmax(1)[rows], reference.argmax(1)[rows]):
        return "its labels differ"
    return None


@contextmanager
def _arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Products as `precision` wants them, whatever the process has set and whatever autocast surrounds."""
    at_ease = not torch.is_autocast_enabled(device.type) and _highest()
    if device.type == "cpu" and precision == "float32" and at_ease:
        yield
        return
    with ExitStack() as stack:
        if not at_ease:
            stack.enter_context(own_modes())
        if device.type == "cuda":
            stack.enter_context(tensor_float(precision == "tf32"))
        if precision == "bf16":
            stack.enter_context(torch.autocast(device.type, torch.bfloat16))
        yield


def _highest() -> bool:
    """Whether the process wants exact products; False where torch cannot tell."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:
        return False


@contextmanager
def tensor_float(allowed: bool) -> Iterator[None]:
    """TF32 in convolutions and matrix products allowed or not; afterwards as before."""
    flags: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    try:
        for flag in flags:
            flag.allow_tf32 = allowed
        yield
    finally:
        for flag, was in zip(flags, before, strict=True):
            flag.allow_tf32 = was


def padded(rows: int, most: int | None) -> int:
    """The number of rows to which a batch is padded for a compiled copy: a power of two, or `most`."""
    size = 1 << (rows - 1).bit_length()
    return size if most is None else max(rows, min(size, most))


class Compiled:
    """`module` through torch.compile, each batch padded with zeros to a power of two.

    On CUDA each size is recorded as a CUDA graph ("reduce-overhead"). Raises what torch.compile raises at
    the first batch of a size.
    """

    def __init__(self, module: nn.Module, device: torch.device, layout: torch.memory_format) -> None:
        self._layout, self._graphs = layout, device.type == "cuda"
        mode = "reduce-overhead" if self._graphs else None
        self._run: Callable[[Tensor], Tensor] = torch.compile(module, dynamic=False, mode=mode)
        self._met: set[int] = set()

    def __call__(self, x: Tensor, most: int | None) -> Tensor:
        size = padded(len(x), most)
        # A new tensor has the strides that the size was compiled for, even if x is a slice of another tensor.
        shape = (size, *x.shape[1:])
        whole = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=self._layout)
        whole[: len(x)] = x
        whole[len(x) :] = 0
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        if size in self._met:
            logits = self._run(whole)
        else:
            with torch._dynamo.config.patch(recompile_limit=_SIZES):
                logits = self._run(whole)
            self._met.add(size)
        return logits[: len(x)].clone()  # the next replay of the graph overwrites its output


class Watch:
    """Detects that a module has changed: a weight written to or replaced, a layer, a hook.

    It cannot see what no version counter records: writes through `weight.data`, and plain attributes.
    """

    def __init__(self, module: nn.Module) -> None:
        layers = list(module.modules())
        self._parts: list[tuple[dict[str, Any], str, nn.Module | Tensor | None]] = [
            (table, name, part)
            for layer in layers
            if not isinstance(layer, torch.jit.ScriptModule)  # its tables are new objects at every access
            for table in (layer._modules, layer._parameters, layer._buffers)
            for name, part in table.items()
        ]
        self._hooks: list[tuple[dict[int, Any], int]] = [
            (hooks, len(hooks))
            for layer in layers
            for hooks in (layer._forward_hooks, layer._forward_pre_hooks)
        ]
        tensors = itertools.chain(module.parameters(), module.buffers())
        self._tensors = [tensor for tensor in tensors if not tensor.is_inference()]
        self._contents = self._versions()

    def unchanged(self) -> bool:
        # Loops, not generators: this is asked before every pass, and takes half of the time so.
        for table, name, part in self._parts:
            if table.get(name) is not part:
                return False
        for hooks, count in self._hooks:
            if len(hooks) != count:
                return False
        return self._versions() == self._contents

    def _versions(self) -> list[tuple[int, int]]:
        return [(tensor._version, tensor.data_ptr()) for tensor in self._tensors]
