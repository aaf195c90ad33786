"""How a data set is named in a scenario, and where its files are looked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from arena.datasets.dataset import Dataset
from arena.messages import quoted

LARGEST_SIDE = 4096
"""The most pixels of a side that images are brought to."""
Layout = Literal["nchw", "nhwc"]


def _pin(sha: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{12,64}", sha):
        raise ValueError(f"must be 12 to 64 hexadecimal digits, the first of a SHA-256; found {quoted(sha)}")
    return sha.lower()


Pin = Annotated[str, AfterValidator(_pin)]
"""The first hexadecimal digits, at least 12, of the SHA-256 that the loaded content must have."""


class DatasetSpec(BaseModel):
    """Which data set, and where it lies.

    Attributes:
        name: one of `DATASETS`.
        path: the file or folder, absolute or within the search path; needed by `npz`, unknown to `digits`.
        layout: the axes of an `npz`'s images, if its shape leaves them open.
        size: height and width in pixels that images of several sizes are resized to.
        sha: the SHA-256 that the data set must have (`Dataset.sha`), or its first 12 or more digits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    path: str | None = None
    layout: Layout | None = None
    size: int | None = Field(default=None, strict=True, ge=8, le=LARGEST_SIDE)
    sha: Pin | None = None


@dataclass(frozen=True)
class Source:
    """A data set's place on a disk.

    Attributes:
        read: makes the data set of the file or folder that was found.
        places: the files or folders looked for, in this order, if no path is given; empty if a path is
            required.
        advice: what to put where, for the error if nothing was found.
        keys: the keys of a DatasetSpec that it knows, besides its name and sha.
    """

    read: Callable[[Path, DatasetSpec], Dataset]
    places: tuple[str, ...]
    advice: str
    keys: tuple[str, ...] = ("path",)
