"""What the sessions of one kind of client met, counted turn by turn."""

from __future__ import annotations

import math
import statistics
from typing import Any

import torch
from torch import Tensor

from arena.evaluation.benign.losses import BenignLoss
from arena.players import Response
from arena.statistics import median_interval


class Counts:
    """Counts of `sessions` sessions, on `device`.

    Attributes:
        closed: [s] bool, the clients whose accounts are closed.
    """

    NAMES = ("refused", "flagged", "banned", "declined", "altered", "wrong")
    """`altered` counts shares of a random defender's answers, `wrong` the answers that clients got."""

    def __init__(self, sessions: int, draws: int, device: torch.device) -> None:
        self.turns, self.draws = 0, draws
        self.closed = torch.zeros(sessions, dtype=torch.bool, device=device)
        self._by = {name: torch.zeros(sessions, dtype=torch.float64, device=device) for name in self.NAMES}
        self._delays: list[float] = []

    def closed_out(self) -> None:
        """A turn begins: clients whose accounts are closed are refused without being asked."""
        self.turns += 1
        for name in ("refused", "banned"):
            self._by[name] += self.closed

    def add(self, mine: Tensor, response: Response, label: Tensor, plain: Tensor, altered: Tensor) -> None:
        """A turn of the clients `mine` [m], whose accounts are open.

        Args:
            label: [m] what they were answered, -1 for none; plain: [m] undefended.
            altered: [m] the share of their fresh answers with another label.
        """
        refused = response.refused | response.banned
        found = {
            "refused": refused,
            "flagged": response.flagged,
            "banned": response.banned,
            "declined": (label < 0) & ~refused,
            "altered": altered,
            "wrong": (label >= 0) & (label != plain),
        }
        for name, value in found.items():
            self._by[name][mine] += value.double()
        self.closed[mine] |= response.banned

    def took(self, seconds: float) -> None:
        """A query of a turn took so many seconds longer than undefended."""
        self._delays.append(seconds)

    def loss(self, client: str, history: str, *, delay: bool) -> BenignLoss:
        """All of it; `delay`: whether the times are told."""
        by = {name: values.cpu() for name, values in self._by.items()}
        lost = by["refused"] + by["declined"] + by["wrong"]
        whole: dict[str, Any] = {
            name: int(by[name].sum()) for name in ("refused", "flagged", "banned", "declined")
        }
        told = {"refused": "refused", "flagged": "flagged", "banned": "banned", "altered": "wrong"}
        whole |= {f"sessions_{name}": int((by[own] > 0).sum()) for name, own in told.items()}
        if delay:
            whole |= delay_of(self._delays)
        return BenignLoss(
            client,
            history,
            sessions=len(lost),
            queries=len(lost) * self.turns,
            draws=self.draws,
            altered=float(by["altered"].sum()),
            sessions_lost=int((lost > 0).sum()),
            **whole,
        )


def delay_of(seconds: list[float]) -> dict[str, float]:
    """The fields of a delay, from those of the turns: the median over pairs of turns, in which each side went
    first once, with its interval; none where that covers 0, or there is none. The first turn warms up."""
    pairs = [(one + other) / 2 for one, other in zip(seconds[1::2], seconds[2::2], strict=False)]
    if not pairs:
        return {}
    low, high = median_interval(pairs)
    if not math.isfinite(low) or low <= 0 <= high:
        return {}
    return {"delay": statistics.median(pairs), "delay_low": low, "delay_high": high}
