"""What a defender answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, overload

import torch
from torch import Tensor


class Flag:
    """A field of `Response`, [n] bool, that reads as all False if it was not given."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"_{name}"

    @overload
    def __get__(self, response: None, owner: type) -> None: ...
    @overload
    def __get__(self, response: Response, owner: type) -> Tensor: ...
    def __get__(self, response: Response | None, owner: type) -> Tensor | None:
        if response is None:
            return None  # the field's default
        flag: Tensor | None = vars(response)[self.name]
        if flag is None:
            flag = vars(response)[self.name] = response.scores.new_zeros(
                len(response.scores), dtype=torch.bool
            )
        return flag

    def __set__(self, response: Response, flag: Tensor | None) -> None:
        vars(response)[self.name] = flag


@dataclass(frozen=True, eq=False)
class Response:
    """A defended answer, [n] rows. A flag that is not given, or None, reads as all False.

    Attributes:
        scores: [n,K] logits. The label answered is that of the highest, ties to the lowest index; a row that
            holds NaN, nothing finite, or the same score for every class declines to give one.
        declined: [n] bool: answered without a label (-1), which is never a hit.
        refused: [n] bool: nothing is answered, and the attacker learns that; charged.
        flagged: [n] bool: marked by the defender, for the log; the attacker does not learn it.
        banned: [n] bool: refused, and the account is closed.
    """

    scores: Tensor
    declined: Flag = Flag()
    refused: Flag = Flag()
    flagged: Flag = Flag()
    banned: Flag = Flag()

    FLAGS: ClassVar[tuple[str, ...]] = ("declined", "refused", "flagged", "banned")

    def given(self, flag: str) -> Tensor | None:
        """A flag of `FLAGS`, or None if it would only read as all False; no tensor is made then."""
        found: Tensor | None = vars(self)[f"_{flag}"]
        return found

    @property
    def withheld(self) -> Tensor:
        """[n] bool: declined, refused or banned."""
        return self.declined | self.refused | self.banned


def pick(response: Response, rows: Tensor) -> Response:
    """The rows of a response selected by an index or a mask."""
    flags = {name: flag[rows] for name in Response.FLAGS if (flag := response.given(name)) is not None}
    return Response(response.scores[rows], **flags)


def concatenated(parts: Sequence[Response]) -> Response:
    """Responses to consecutive rows as one."""
    flags: dict[str, Any] = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in Response.FLAGS
        if any(part.given(name) is not None for part in parts)
    }
    return Response(torch.cat([part.scores for part in parts]), **flags)
