"""A user's plain function as a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from arena.classifiers.errors import no_address
from arena.classifiers.served import Served


class Function(Served):
    """A plain function [n,C,H,W] -> [n,K] in the form of a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        if not callable(function):
            allowed = "a classifier is a torch module, a Classifier or a function of images"
            raise ValueError(no_address(function) or f"found a {type(function).__name__}; {allowed}")
        self.function = function

    @property
    def name(self) -> str:  # type: ignore[override]
        owner = self.function if hasattr(self.function, "__qualname__") else type(self.function)
        return f"{owner.__module__}:{owner.__qualname__}"

    def extra_repr(self) -> str:
        return self.name

    def __deepcopy__(self, memo: dict[int, Any]) -> Function:
        return self  # what the function holds, such as a connection, is its own

    def forward(self, x: Tensor) -> Tensor:
        return self.ask(lambda: self.function(x), len(x))
