"""Matches played with and without isolation, and what was recorded of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arena.records.pieces import Piece

STRANGERS = Path(__file__).parent / "strangers"


class Kept:
    """A recorder that keeps all pieces."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def record(self, piece: Piece) -> None:
        self.pieces.append(piece)

    @property
    def reasons(self) -> list[str]:
        games = self.pieces[-1].games
        assert games is not None
        return list(games.reason)

    def notes(self, key: str) -> list[Any]:
        return [rows.value[0] for piece in self.pieces for rows in piece.notes if rows.key == key]

    @property
    def said(self) -> str:
        """Why games ended in `error`."""
        (said,) = self.notes("error")
        return str(said)

    @property
    def text(self) -> list[Any]:
        """All that was recorded, to the bit."""
        reports: list[Any] = [
            rows for kind in ("queries", "marks", "notes") for p in self.pieces for rows in getattr(p, kind)
        ]
        columns = [getattr(rows, f.name) for rows in (*reports, self.pieces[-1].games) for f in fields(rows)]
        return [c.tobytes() if isinstance(c, np.ndarray) else str(c) for c in columns]


@pytest.fixture(scope="session")
def kept() -> type[Kept]:
    return Kept


@pytest.fixture(scope="session")
def strangers() -> Iterator[Path]:
    """The folder of strangers' modules, on the search path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STRANGERS))
        yield STRANGERS
