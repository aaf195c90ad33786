"""How a data set is named in a scenario, and where its files are looked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from arena.datasets.dataset import Dataset

Layout = Literal["nchw", "nhwc"]


class DatasetSpec(BaseModel):
    """Which data set, and where it lies.

    Attributes:
        name: one of `DATASETS`.
        path: the file or folder, absolute or within the search path; needed by `npz`, unknown to `digits`.
        layout: the axes of an `npz`'s images, where its shape does not tell.
        size: height and width in pixels that images of several sizes are brought to.
        sha: the beginning, at least 12 digits, of the SHA-256 that the data set must have (`Dataset.sha`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    path: str | None = None
    layout: Layout | None = None
    size: int | None = Field(default=None, strict=True, ge=8)
    sha: str | None = None

    @field_validator("sha")
    @classmethod
    def _pin(cls, sha: str | None) -> str | None:
        if sha is not None and not re.fullmatch("[0-9a-fA-F]{12,64}", sha):
            raise ValueError(f"must be 12 to 64 hexadecimal digits, the first of a SHA-256; found {sha!r}")
        return sha and sha.lower()


@dataclass(frozen=True)
class Source:
    """A data set's place on a disk.

    Attributes:
        read: makes the data set of the file or folder that was found.
        places: the files or folders looked for, in this order, where no path is given; empty where one is
            needed.
        advice: what to put where, said where nothing was found.
        keys: the keys of a DatasetSpec that it knows, besides its name and sha.
    """

    read: Callable[[Path, DatasetSpec], Dataset]
    places: tuple[str, ...]
    advice: str
    keys: tuple[str, ...] = ("path",)
