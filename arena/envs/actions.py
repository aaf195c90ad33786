"""Actions as they come, numpy or torch, turned into rows for the Referee."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arena.rules.moves import VolleyError
from arena.rules.outcome import Bools
from arena.rules.threat import Threat


@dataclass(frozen=True, eq=False)
class Action:
    """One row for each of N games.

    Attributes:
        image: [N,C,H,W] to ask, or to hand in.
        send: [N] whether the game acts at all.
        submit: [N] whether `image` is handed in instead of asked.
        account: [N] int64; None: the first.
    """

    image: Tensor
    send: Bools
    submit: Bools
    account: Tensor | None = None


class Actions:
    """Reads the actions of `games` games side by side with images `shape` = (C, H, W)."""

    def __init__(self, threat: Threat, games: int, shape: tuple[int, int, int], device: torch.device) -> None:
        self.threat, self.games, self.shape, self.device = threat, games, shape, device

    def single(self, action: Any) -> Action:
        """The action of the one game of an environment, whose parts have no first axis.

        Raises:
            VolleyError: if it is malformed, here and below.
        """
        allowed = {*self._optional} - {"send"}
        parts = self._parts(action, allowed)
        image = self._images(parts.pop("image"), self.shape)[None]
        return self._read({"image": image, **{name: _one(part) for name, part in parts.items()}})

    def several(self, action: Any) -> Action:
        """The action of a vector environment; a bare batch of images is one that all send."""
        parts = self._parts(action, {*self._optional})
        image = self._images(parts.pop("image"), (self.games, *self.shape))
        return self._read({"image": image, **parts})

    @property
    def _optional(self) -> list[str]:
        submit = ["submit"] if self.threat.objective == "submit" else []
        return ["send", *submit, *(["account"] if self.threat.accounts > 1 else [])]

    def _parts(self, action: Any, allowed: set[str]) -> dict[str, Any]:
        if not isinstance(action, Mapping):
            return {"image": action}
        if "image" not in action or not {*action} <= {"image", *allowed}:
            names, found = (", ".join(map(str, part)) for part in (sorted(allowed), action))
            raise VolleyError(f"an action holds image, and may hold {names or 'nothing else'}; found {found}")
        return dict(action)

    def _images(self, image: Any, shape: tuple[int, ...]) -> Tensor:
        if isinstance(image, np.ndarray):
            if image.dtype != np.float32:
                raise VolleyError(f"image must be float32; found {image.dtype}")
            image = torch.from_numpy(image.copy()).to(self.device)
        if not isinstance(image, Tensor) or tuple(image.shape) != shape:
            found = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise VolleyError(f"image must be an array or a tensor {list(shape)}; found {found}")
        return image.detach()

    def _read(self, parts: dict[str, Any]) -> Action:
        account = parts.get("account")
        return Action(
            parts["image"],
            self._mask("send", parts.get("send"), default=True),
            self._mask("submit", parts.get("submit"), default=False),
            None if account is None else torch.tensor(self._numbers("account", account), device=self.device),
        )

    def _mask(self, name: str, mask: Any, *, default: bool) -> Bools:
        if mask is None:
            return np.full(self.games, default)
        numbers = self._numbers(name, mask)
        if ((numbers != 0) & (numbers != 1)).any():
            raise VolleyError(f"{name} must hold 0 or 1 for each game; found {numbers.tolist()}")
        return np.asarray(numbers == 1)

    def _numbers(self, name: str, values: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
        if isinstance(values, Tensor):
            values = values.cpu().numpy()
        numbers = np.asarray(values)
        if numbers.shape != (self.games,) or numbers.dtype.kind not in "biu":
            raise VolleyError(
                f"{name} must be whole numbers [{self.games}]; found {numbers.dtype} {list(numbers.shape)}"
            )
        return numbers.astype(np.int64)


def _one(number: Any) -> Any:
    """A number, as it comes, with a first axis of one."""
    return number[None] if isinstance(number, Tensor) else [number]
