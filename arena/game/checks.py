"""What a move must be like before anything is charged for it, and the copy of it that is served
(docs/design.md, D2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from arena.game.tensors import flaw_of, in_words, own
from arena.messages import one_line
from arena.rules.limits import LONGEST_VALUE, LONGEST_WORD, PURPOSES
from arena.rules.moves import Note, Volley, VolleyError
from arena.rules.outcome import Ints

_NUMBERS = {
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
}
"""The dtypes of a note's tensor."""
_FLAWS = (
    "images must be finite",
    "images must lie in [0,1]",
    "game must be an index of the seat, from 0 to {games} (exclusive)",
    "account must be from 0 to {accounts} (exclusive)",
    "a game may be named once in this move",
)


@dataclass(frozen=True)
class Remark:
    """A note as it is served.

    Attributes:
        games: [m] the games it is about; values: [m] one for each of them.
    """

    key: str
    games: Ints
    values: list[str] | list[float]


class Checks:
    """The checks for moves about the games whose clean images are `x0` [G,C,H,W].

    What they give back is made of tensors that nobody else holds.
    """

    def __init__(self, x0: Tensor, accounts: int, max_rows: int) -> None:
        self.shape, self.device = x0.shape[1:], x0.device
        self.count, self.accounts, self.max_rows = len(x0), accounts, max_rows
        self._purposes: set[str] = set()

    def whole(self, x: object, game: object, *, once: bool = False) -> tuple[Tensor, Tensor]:
        """Images `x` [n,C,H,W] and their games [n], after all checks; `once`: each game may be named once.

        Raises:
            VolleyError: with what was wrong and what is allowed, here and below.
        """
        images = self._images(x, limited=not once)
        index = self._index("game", game, images)
        self.values(images, index, once=once)
        return images, index

    def volley(self, volley: Volley) -> Volley:
        """A volley after all checks."""
        volley = self.form(volley)
        self.values(volley.x, volley.game, volley.account)
        return volley

    def form(self, volley: Volley) -> Volley:
        """A volley after the checks that need no look at values on the device."""
        images = self._images(getattr(volley, "x", None))
        game = self._index("game", getattr(volley, "game", None), images)
        account = volley.account
        if account is not None:
            account = self._index("account", account, images)
        return Volley(images, game, account, self._purpose(volley.purpose))

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

    def games(self, game: object) -> Tensor:
        """The games [n] that a move without images names."""
        index = self._plain_index("game", game, "a tensor int64 [n]")
        if len(index) > (most := max(self.max_rows, self.count)):
            raise VolleyError(f"a move may name {most:,} games at most; found {len(index):,}")
        games = own(index)
        if len(games) and (int(games.min()) < 0 or int(games.max()) >= self.count):
            self.reject([0, 0, 1, 0, 0])
        return games

    def note(self, note: Note) -> Remark:
        """A remark that the log can take.

        A text that is too long, or holds what no log can (half of a surrogate pair, NUL), is malformed.
        """
        key, value = word("a note's key", getattr(note, "key", None)), getattr(note, "value", None)
        games: Ints = self.games(getattr(note, "game", None)).cpu().numpy()
        if isinstance(value, Tensor):
            return Remark(key, games, self._numbers(value, len(games)))
        if type(value) is str:
            return Remark(key, games, [_text("a note's value", value, LONGEST_VALUE)] * len(games))
        if type(value) in (bool, int, float):
            return Remark(key, games, [_number(value)] * len(games))
        raise VolleyError(f"a note's value must be text, a number or a tensor; found {in_words(value)}")

    def _numbers(self, value: Tensor, count: int) -> list[float]:
        flaw = flaw_of(value)
        if flaw or value.shape != (count,) or value.device != self.device or value.dtype not in _NUMBERS:
            where = "" if flaw else f" on {value.device}"
            raise VolleyError(
                f"a note's tensor must hold one number for each game [{count}] on {self.device}; "
                f"found {in_words(value)}{where}"
            )
        numbers: list[float] = own(value).double().cpu().tolist()
        return numbers

    def _images(self, x: object, *, limited: bool = True) -> Tensor:
        """A copy of images [n,C,H,W]; `limited`: to `max_rows` rows."""
        flaw = flaw_of(x)
        if flaw or not isinstance(x, Tensor) or len(x.shape) != 4 or x.shape[1:] != self.shape:
            found = flaw or list(getattr(x, "shape", ()))
            raise VolleyError(f"images must be a tensor [n,{','.join(map(str, self.shape))}]; found {found}")
        if x.dtype != torch.float32:
            raise VolleyError(f"images must be float32; found {x.dtype}")
        if x.device != self.device:
            raise VolleyError(f"images must be on device {self.device}; found {x.device}")
        if limited and len(x) > self.max_rows:
            raise VolleyError(
                f"a volley may hold {self.max_rows} rows at most (games.max_rows); found {len(x)}"
            )
        if len(x) > max(self.max_rows, self.count):  # no use in copying what names a game twice
            self.reject([0, 0, 0, 0, 1])
        return own(x)

    def _index(self, name: str, index: object, x: Tensor) -> Tensor:
        found = self._plain_index(name, index, f"int64 [{len(x)}], one for each image")
        if found.shape != x.shape[:1]:
            raise VolleyError(f"{name} must be int64 [{len(x)}], one for each image; found {in_words(index)}")
        return own(found)

    def _plain_index(self, name: str, index: object, allowed: str) -> Tensor:
        flaw = flaw_of(index)
        if flaw or not isinstance(index, Tensor) or index.dtype != torch.int64 or len(index.shape) != 1:
            raise VolleyError(f"{name} must be {allowed}; found {in_words(index)}")
        if index.device != self.device:
            raise VolleyError(f"{name} must be on device {self.device}; found {index.device}")
        return index

    def _purpose(self, purpose: object) -> str:
        if type(purpose) is str and purpose in self._purposes:
            return purpose
        found = word("purpose", purpose)
        if len(self._purposes) >= PURPOSES:
            raise VolleyError(f"a shard may use {PURPOSES} different purposes at most; found {found!r} too")
        self._purposes.add(found)
        return found


def word(name: str, found: object, allowed: Sequence[str] = ()) -> str:
    """`found`, if it is text, and one of `allowed` where some (two at least) are listed.

    Raises:
        VolleyError: with what it must be.
    """
    if type(found) is not str or (allowed and found not in allowed):
        names = [f'"{a}"' for a in allowed]
        must = f"{', '.join(names[:-1])} or {names[-1]}" if names else "text"
        shown = one_line(repr(found)[:LONGEST_WORD]) if type(found) is str else in_words(found)
        raise VolleyError(f"{name} must be {must}; found {shown}")
    return found if allowed else _text(name, found, LONGEST_WORD)


def _text(name: str, text: str, longest: int) -> str:
    if len(text) > longest:
        raise VolleyError(f"{name} may hold {longest:,} characters at most; found {len(text):,}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise VolleyError(f"{name} must be text that UTF-8 can hold; found {text!r:.40}") from None
    if "\0" in text:
        raise VolleyError(f"{name} must hold no NUL; found {text!r:.40}")
    return text


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        raise VolleyError("a note's number must be one that float64 can hold; found a larger one") from None
