"""What a move must be like before anything is charged for it (docs/design.md, D2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from arena.rules.moves import Note, Volley, VolleyError
from arena.rules.outcome import Ints

_FLAWS = (
    "images must be finite",
    "images must lie in [0,1]",
    "game must be an index of the seat, from 0 to {games} (exclusive)",
    "account must be from 0 to {accounts} (exclusive)",
    "a game may be named once in this move",
)


class Checks:
    """The checks for moves about the games whose clean images are `x0` [G,C,H,W]."""

    def __init__(self, x0: Tensor, accounts: int, max_rows: int) -> None:
        self.shape, self.device = list(x0.shape[1:]), x0.device
        self.count, self.accounts, self.max_rows = len(x0), accounts, max_rows

    def whole(self, x: Tensor, game: Tensor, *, once: bool = False) -> None:
        """All checks of images `x` [n,C,H,W] for games `game` [n]; `once`: each game may be named once.

        Raises:
            VolleyError: with what was wrong and what is allowed, here and below.
        """
        self.form(x, game, limited=not once)
        self.values(x, game, once=once)

    def volley(self, volley: Volley) -> None:
        """All checks of a volley."""
        self.form(volley.x, volley.game, volley.account)
        word("purpose", volley.purpose)
        self.values(volley.x, volley.game, volley.account)

    def form(self, x: Tensor, game: Tensor, account: Tensor | None = None, *, limited: bool = True) -> None:
        """What can be told without looking at values on the device; `limited`: to `max_rows` rows."""
        if not isinstance(x, Tensor) or x.dim() != 4 or list(x.shape[1:]) != self.shape:
            found = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise VolleyError(f"images must be a tensor [n,{','.join(map(str, self.shape))}]; found {found}")
        if x.dtype != torch.float32:
            raise VolleyError(f"images must be float32; found {x.dtype}")
        if x.device != self.device:
            raise VolleyError(f"images must be on device {self.device}; found {x.device}")
        self._index("game", game, x)
        if account is not None:
            self._index("account", account, x)
        if limited and len(x) > self.max_rows:
            raise VolleyError(
                f"a volley may hold {self.max_rows} rows at most (games.max_rows); found {len(x)}"
            )

    def values(self, x: Tensor, game: Tensor, account: Tensor | None = None, *, once: bool = False) -> None:
        """What can be told by looking at values alone."""
        found = self._flaws(x, game, account, once=once)
        self.reject(torch.stack(found).tolist() if found and isinstance(found[0], Tensor) else found)

    def flaws(self, x: Tensor, game: Tensor, account: Tensor | None = None) -> Tensor:
        """One number for each kind of flaw, above 0 where it occurs; on the device, for `reject`."""
        return torch.stack([torch.as_tensor(flaw, device=x.device) for flaw in self._flaws(x, game, account)])

    def _flaws(self, x: Tensor, game: Tensor, account: Tensor | None, *, once: bool = False) -> list[Any]:
        """Whether each kind of flaw occurs: tensors on an accelerator; bools, as they are faster, here."""
        if not len(x):
            return [torch.zeros((), dtype=torch.bool, device=x.device)] * len(_FLAWS)
        bounds = [*torch.aminmax(x), *torch.aminmax(game)]
        if account is not None:
            bounds += torch.aminmax(account)
        if once:
            bounds.append((game.sort().values.diff() == 0).any())
        numbers: list[Any] = [b.item() for b in bounds] if x.device.type == "cpu" else bounds
        low, high, least, most, *others = numbers
        none = least != least
        return [
            (high - low) * 0 != 0,
            (low < 0) | (high > 1),
            (least < 0) | (most >= self.count),
            none if account is None else (others[0] < 0) | (others[1] >= self.accounts),
            others[-1] if once else none,
        ]

    def reject(self, flaws: Sequence[float]) -> None:
        """Raise for the first flaw above 0."""
        for flaw, sentence in zip(flaws, _FLAWS, strict=True):
            if flaw:
                raise VolleyError(sentence.format(games=self.count, accounts=self.accounts))

    def games(self, game: Tensor) -> Ints:
        """A copy on the host of the games [n] that a move without images names."""
        if not isinstance(game, Tensor) or game.dtype != torch.int64 or game.dim() != 1:
            raise VolleyError(f"game must be a tensor int64 [n]; found {_found(game)}")
        if game.device != self.device:
            raise VolleyError(f"game must be on device {self.device}; found {game.device}")
        games: Ints = game.cpu().numpy().copy()
        if len(games) and not (games.min() >= 0 and games.max() < self.count):
            self.reject([0, 0, 1, 0, 0])
        return games

    def note(self, note: Note) -> None:
        """That a remark is one the log can take."""
        word("a note's key", note.key)
        value, game = note.value, note.game
        if isinstance(value, Tensor):
            if value.shape != game.shape or value.device != game.device:
                raise VolleyError(
                    f"a note's tensor must hold one number for each game [{len(game)}] on {game.device}; "
                    f"found {_found(value)} on {value.device}"
                )
        elif not isinstance(value, str | int | float):
            raise VolleyError(f"a note's value must be text, a number or a tensor; found {_found(value)}")

    def _index(self, name: str, index: Tensor, x: Tensor) -> None:
        if not isinstance(index, Tensor) or index.dtype != torch.int64 or index.shape != x.shape[:1]:
            raise VolleyError(f"{name} must be int64 [{len(x)}], one for each image; found {_found(index)}")
        if index.device != x.device:
            raise VolleyError(f"{name} must be on the images' device {x.device}; found {index.device}")


def word(name: str, found: object, allowed: Sequence[str] = ()) -> None:
    """That `found` is text, and one of `allowed` where some are listed.

    Raises:
        VolleyError: with what it must be.
    """
    if not isinstance(found, str) or (allowed and found not in allowed):
        must = " or ".join(f'"{a}"' for a in allowed) or "text"
        raise VolleyError(f"{name} must be {must}; found {found!r}")


def _found(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
