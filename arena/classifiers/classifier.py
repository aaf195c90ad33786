"""A torch classifier as the arena sees it."""

from __future__ import annotations

import copy
import hashlib
import itertools
import re
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Classifier:
    """Images [n,C,H,W] float32 in [0,1] -> logits [n,K] float32: eval mode, frozen, normalisation inside.

    A module that is in training mode, requires gradients or lies on another device is copied first, so that
    the caller's own stays as it was; any other is shared. `sha` stands for the fingerprint where the caller
    knows a better one than `fingerprint(module)`.

    Raises ValueError for a batch below 1, and for a BatchNorm without running statistics: its answer to one
    image would depend on the others in the batch.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        shape: tuple[int, int, int],
        classes: int,
        device: str | torch.device = "cpu",
        batch: int = 256,
        name: str = "",
        sha: str | None = None,
    ) -> None:
        if batch < 1:
            raise ValueError(f"a classifier's batch must be at least 1 row, not {batch}")
        self.name = name or type(module).__name__
        for key, layer in module.named_modules():
            if isinstance(layer, _BatchNorm) and layer.running_mean is None:
                raise ValueError(
                    f"classifier {self.name!r}: layer {key or 'itself'} ({type(layer).__name__}) keeps no "
                    f"running statistics, so its answers would depend on the batch; set track_running_stats"
                )
        self.device = torch.empty(0, device=device).device  # "cuda" -> "cuda:0", comparable with a tensor's
        self.module = _frozen(module, self.device)
        self.shape = shape
        self.classes = classes
        self.batch = batch
        self._sha = sha

    @property
    def sha(self) -> str:
        """SHA-256 that tells one classifier from another, in hexadecimal; computed once, when asked."""
        if self._sha is None:
            self._sha = fingerprint(self.module)
        return self._sha

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [n,K] of x [n,C,H,W], in pieces of at most `batch` rows, without gradients.

        The forward runs under inference_mode; the logits are copied out of it (a few microseconds), because
        an inference tensor could be neither written to nor used in autograd by a defender that gets it.
        """
        if len(x) == 0:
            return x.new_zeros((0, self.classes))
        if self.module.training:
            self.module.eval()
        with torch.inference_mode():
            pieces = [
                self.module(piece) for piece in (torch.split(x, self.batch) if len(x) > self.batch else (x,))
            ]
        logits = pieces[0].to(torch.float32, copy=True) if len(pieces) == 1 else torch.cat(pieces).float()
        if self.classes and logits.shape != (len(x), self.classes):
            found = f"found {list(logits.shape)} for {len(x)} images"
            raise ValueError(f"classifier {self.name!r} must answer [n,{self.classes}]; {found}")
        return logits

    def differentiable(self, x: Tensor) -> Tensor:
        """Logits [n,K] of x [n,C,H,W], in one piece, with autograd through x (none through the weights)."""
        if self.module.training:
            self.module.eval()
        logits: Tensor = self.module(x)
        return logits.float()

    @classmethod
    def of(
        cls,
        model: nn.Module | Classifier | Callable[[Tensor], Tensor],
        *,
        sample: Tensor,
        device: str | torch.device = "cpu",
        batch: int = 256,
        name: str = "",
    ) -> Classifier:
        """Wrap a user's model; shape and number of classes are those of one forward on `sample` [1..,C,H,W].

        A function has no weights: its fingerprint is its qualified name. Raises ValueError where the model
        cannot take the sample, changes it in place, or answers anything but floating-point [n,K] with K > 1.
        """
        sha = None
        if isinstance(model, Classifier):
            name, sha, model = name or model.name, model._sha, model.module
        module = model if isinstance(model, nn.Module) else Function(model)
        if sample.dim() != 4 or len(sample) == 0:
            raise ValueError(f"the sample must be images [n,C,H,W] with n > 0, not {list(sample.shape)}")
        channels, height, width = sample.shape[1:]
        name = name or (module.name if isinstance(module, Function) else "")
        shape = (channels, height, width)
        self = cls(module, shape=shape, classes=0, device=device, batch=batch, name=name, sha=sha)
        self.classes = self._count_classes(sample[:2].to(self.device, torch.float32))
        return self

    def _count_classes(self, sample: Tensor) -> int:
        given = sample.clone()
        try:
            with torch.inference_mode():
                logits = self.module(given)
        except Exception as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(
                f"classifier {self.name!r} cannot take images of shape {list(self.shape)}: {said[0]}"
            ) from error
        want = (
            f"classifier {self.name!r} must answer images [n,C,H,W] with floating-point logits [n,K], K > 1"
        )
        if not isinstance(logits, Tensor):
            raise ValueError(f"{want}, not with a {type(logits).__name__}")
        if (
            logits.dim() != 2
            or len(logits) != len(sample)
            or logits.shape[1] < 2
            or not logits.is_floating_point()
        ):
            kind = str(logits.dtype).removeprefix("torch.")
            raise ValueError(f"{want}, not with {kind} {list(logits.shape)} to {len(sample)} images")
        if not torch.equal(given, sample):
            raise ValueError(f"classifier {self.name!r} changes its input in place; it must work on a copy")
        return logits.shape[1]


class Function(nn.Module):
    """A plain function [n,C,H,W] -> [n,K] in the form of a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    @property
    def name(self) -> str:
        owner = self.function if hasattr(self.function, "__qualname__") else type(self.function)
        return f"{owner.__module__}:{owner.__qualname__}"

    def extra_repr(self) -> str:
        return self.name

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over the name, dtype, shape and bytes of every parameter and buffer, and the module's repr.

    Buffers outside the state dict (a normalisation's mean, say) count too: they change the answers. The same
    on every device.
    """
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(module)).encode())
    for name, tensor in sorted(_tensors(module), key=lambda item: item[0]):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return list(
        itertools.chain(
            module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)
        )
    )


def _frozen(module: nn.Module, device: torch.device) -> nn.Module:
    ready = not any(layer.training for layer in module.modules()) and not any(
        tensor.requires_grad or tensor.device != device for _, tensor in _tensors(module)
    )
    return module if ready else copy.deepcopy(module).to(device).eval().requires_grad_(False)
