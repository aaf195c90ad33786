"""A numpy function as a classifier."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arena.classifiers.errors import ClassifierError, ServiceError
from arena.classifiers.served import Served
from arena.messages import in_short

NumpyFunction = Callable[[NDArray[np.float32]], Any]


class FromNumpy(Served):
    """A classifier out of a function of arrays, images [n,C,H,W] float32 in [0,1] -> logits [n,K].

    It runs on the CPU and gives no gradients. Its fingerprint is the function's qualified name and the
    SHA-256 of the file that defines it, if there is one; other files that it reads are not covered. `classes`
    is K, if it is to be checked. It can be passed to `arena.play`, returned by the factory that a scenario
    names as its network, or named there itself (also as a decorator).

    The function may ask a service: where that is down or overloaded it is tried again (`Served.ask`).

    Raises ClassifierError if the function fails or returns something else.
    """

    def __init__(self, function: NumpyFunction, classes: int | None = None) -> None:
        super().__init__()
        if not callable(function):
            raise TypeError(f"FromNumpy takes a function of an array; found {type(function).__name__}")
        self.function, self.classes = function, classes
        self.sha = _source_sha(function)
        self.eval()

    @property
    def name(self) -> str:  # type: ignore[override]
        """Module and qualified name of the function, or of the class of what is called."""
        owner = _written(self.function)
        return f"{owner.__module__}:{owner.__qualname__}"

    def extra_repr(self) -> str:
        return f"{self.name}, sha={self.sha}"

    def __deepcopy__(self, memo: dict[int, Any]) -> FromNumpy:
        return self  # holds no tensors; what the function holds is its own

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            raise ClassifierError(
                f"classifier {self.name} is a numpy function and gives no gradients: a white box (knowledge "
                f"of the weights) needs a network in torch"
            )
        pixels = x.detach().cpu().numpy()
        try:
            # Each try has a copy that the function may write into.
            answer = self.ask(lambda: self.function(np.array(pixels, dtype=np.float32, order="C")), len(x))
        except ServiceError:
            raise
        except Exception as error:
            reason = in_short(error)
            raise ClassifierError(
                f"classifier {self.name} failed on images {list(x.shape)}: {reason}"
            ) from error
        return self._logits(answer, len(x)).to(x.device)

    def _logits(self, answer: Any, n: int) -> Tensor:
        columns = self.classes or "K"
        want = f"classifier {self.name} must answer {n} images with an array of numbers [{n},{columns}]"
        try:
            logits = np.asarray(answer)
        except (TypeError, ValueError):
            raise ClassifierError(f"{want}, not with a {type(answer).__name__}") from None
        if logits.dtype.kind not in "fiu":
            raise ClassifierError(f"{want}, not with {type(answer).__name__} of {logits.dtype}")
        if logits.ndim != 2 or len(logits) != n or logits.shape[1] != (self.classes or logits.shape[1]):
            raise ClassifierError(f"{want}, not with {logits.dtype} {list(logits.shape)}")
        return torch.from_numpy(np.array(logits, dtype=np.float32))


def _written(function: Any) -> Any:
    """The object whose source file counts: a partial's function, or the class of a callable object."""
    while isinstance(function, partial):
        function = function.func
    return function if hasattr(function, "__qualname__") else type(function)


def _source_sha(function: NumpyFunction) -> str:
    """SHA-256 of the file that defines a function, or a callable object's class; empty if there is none."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(_written(function)))
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    except (OSError, TypeError, ValueError):
        return ""
