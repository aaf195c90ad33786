"""How a classifier is named in a scenario."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from arena.classifiers.errors import no_address
from arena.classifiers.forward import Precision
from arena.datasets.source import Pin
from arena.messages import quoted


def _channels(value: Any) -> Any:
    """One value, or one a channel, as a tuple of floats."""
    values = value if isinstance(value, list | tuple) else [value]
    if not values or not all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values
    ):
        raise ValueError(
            f"found {quoted(value)}; it must be a finite number, or a list with one for each channel"
        )
    return tuple(map(float, values))


Channels = Annotated[tuple[float, ...], BeforeValidator(lambda v: None if v is None else _channels(v))]


class ClassifierSpec(BaseModel):
    """Which network, with which weights, and how it is run.

    Attributes:
        network: one of `NETWORKS`; "timm:NAME" or "torchvision:NAME"; "module:attribute" for a torch module,
            a class of such, a `FromNumpy`, or, if it is trusted, a function that returns one of these; or a
            program file (TorchScript .pt, .ts or .torchscript; torch.export .pt2; ONNX .onnx), absolute or
            within the search path (in its folders themselves or in `weights` below them), which brings its
            own weights.
        weights: a file, found in the same way, of tensors only: safetensors, or a pickle (.pt, .pth, .th,
            .bin, .ckpt, .model) of which nothing is run; or the name of a packaged file. A network of the
            table needs one, a factory may load its own.
        params: keyword arguments for the network or factory.
        mean, std: the input normalisation (x - mean) / std in front of the network, one value or one a
            channel; without them that of the weights' metadata, else the network's own.
        precision: of the forward pass.
        compile: whether torch.compile is used.
        sha: the first 12 or more hexadecimal digits of the classifier's SHA-256; any other is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str
    weights: str | None = None
    params: dict[str, Any] = {}
    mean: Channels | None = None
    std: Channels | None = None
    precision: Precision = "float32"
    compile: bool = Field(default=False, strict=True)
    sha: Pin | None = None

    @field_validator("network")
    @classmethod
    def _no_address(cls, value: str) -> str:
        if (sentence := no_address(value)) is not None:
            raise ValueError(sentence)
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.mean is None) != (self.std is None):
            there, absent = ("mean", "std") if self.std is None else ("std", "mean")
            raise ValueError(f"found {there} without {absent}; they are given together or not at all")
        if self.std is not None and not all(s > 0 for s in self.std):
            raise ValueError(f"found std {list(self.std)}; it must be above 0")
        counts = {len(given) for given in (self.mean, self.std) if given is not None} - {1}  # 1 is for all
        if len(counts) > 1:
            raise ValueError(f"found {len(self.mean or ())} values of mean and {len(self.std or ())} of std")
        return self

    def __hash__(self) -> int:
        return hash((self.network, self.weights, frozenset(self.params), self.sha))
