"""How a data set is named in a scenario, and where its files are looked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from arena.datasets.dataset import Dataset

Layout = Literal["nchw", "nhwc"]


class DatasetSpec(BaseModel):
    """Which data set, and where it lies.

    Attributes:
        name: one of `DATASETS`.
        path: the file or folder, absolute or within the search path; needed by `npz`, unknown to `digits`.
        layout: the axes of an `npz`'s images, where its shape does not tell.
        size: height and width in pixels that images of several sizes are brought to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    path: str | None = None
    layout: Layout | None = None
    size: int | None = Field(default=None, strict=True, ge=8)


@dataclass(frozen=True)
class Source:
    """A data set's place on a disk.

    Attributes:
        read: makes the data set of the file or folder that was found.
        places: the files or folders looked for, in this order, where no path is given; empty where one is
            needed.
        advice: what to put where, said where nothing was found.
        keys: the keys of a DatasetSpec that it knows, besides its name.
    """

    read: Callable[[Path, DatasetSpec], Dataset]
    places: tuple[str, ...]
    advice: str
    keys: tuple[str, ...] = ("path",)
