"""Actions as they come, numpy or torch, turned into rows for the Referee."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arena.envs.perturbations import perturbed
from arena.envs.spaces import ActionKind, action_parts
from arena.game.tensors import flaw_of
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
    """Reads the actions of `games` games side by side with images `shape` = (C, H, W).

    Args:
        kind: whether an action is an image or a perturbation (`arena.envs.perturbations.perturbed`).
    """

    def __init__(
        self,
        threat: Threat,
        games: int,
        shape: tuple[int, int, int],
        device: torch.device,
        kind: ActionKind = "perturbation",
    ) -> None:
        self.threat, self.games, self.shape, self.device, self.kind = threat, games, shape, device, kind

    def single(self, action: Any, x0: Tensor) -> Action:
        """The action of the one game of an environment, whose parts have no first axis.

        Args:
            x0: [1,C,H,W] its clean image.

        Raises:
            VolleyError: if it is malformed, here and below.
        """
        parts = self._parts(action)
        pixels = self._pixels(parts.pop(self.kind), self.shape)[None]
        return self._read(pixels, {name: _one(part) for name, part in parts.items()}, None, x0)

    def several(self, action: Any, x0: Tensor, send: Any = None) -> Action:
        """The action of a vector environment with clean images `x0` [N,C,H,W]; without `send` all send."""
        parts = self._parts(action)
        pixels = self._pixels(parts.pop(self.kind), (self.games, *self.shape))
        return self._read(pixels, parts, send, x0)

    def _parts(self, action: Any) -> dict[str, Any]:
        if not isinstance(action, Mapping):
            return {self.kind: action}
        allowed = sorted(action_parts(self.threat), reverse=True)
        if self.kind not in action or not {*action} <= {self.kind, *allowed}:
            found = ", ".join(map(str, action))
            hint = "; who does not send is told by step(actions, send=mask)" if "send" in action else ""
            raise VolleyError(
                f"an action holds {self.kind}, and may hold {' and '.join(allowed) or 'nothing else'}; "
                f"found {found}{hint}"
            )
        return dict(action)

    def _pixels(self, pixels: Any, shape: tuple[int, ...]) -> Tensor:
        if isinstance(pixels, np.ndarray):
            if pixels.dtype != np.float32:
                raise VolleyError(f"{self.kind} must be float32; found {pixels.dtype}")
            pixels = torch.from_numpy(pixels.copy()).to(self.device)
        if isinstance(pixels, nn.Parameter):
            pixels = pixels.detach()
        flaw = flaw_of(pixels)
        if flaw or tuple(pixels.shape) != shape:
            found = flaw or list(pixels.shape)
            raise VolleyError(f"{self.kind} must be an array or a tensor {list(shape)}; found {found}")
        return Tensor.detach(pixels)

    def _image(self, pixels: Tensor, send: Bools, x0: Tensor) -> Tensor:
        """The images of actions, both [N,C,H,W]."""
        if self.kind == "image":
            return pixels
        if pixels.dtype != torch.float32 or pixels.device != x0.device:
            raise VolleyError(
                f"perturbation must be float32 on {x0.device}; found {pixels.dtype} on {pixels.device}"
            )
        # Elsewhere NaN reaches the images, which are looked at together with all else.
        if pixels.device.type == "cpu" and not pixels[torch.from_numpy(send)].isfinite().all():
            raise VolleyError("perturbation must be finite; found NaN or infinite entries")
        return perturbed(x0, pixels, self.threat)

    def _read(self, pixels: Tensor, parts: dict[str, Any], send: Any, x0: Tensor) -> Action:
        account, sends = parts.get("account"), self._mask("send", send, default=True)
        return Action(
            self._image(pixels, sends, x0),
            sends,
            self._mask("submit", parts.get("submit"), default=False),
            None if account is None else torch.tensor(self._numbers("account", account), device=self.device),
        )

    def _mask(self, name: str, mask: Any, *, default: bool) -> Bools:
        if mask is None:
            return np.full(self.games, default)
        numbers = self._numbers(name, mask, "booleans (or 0 and 1)")
        if ((numbers != 0) & (numbers != 1)).any():
            raise VolleyError(f"{name} must hold 0 or 1 for each game; found {numbers.tolist()}")
        return np.asarray(numbers == 1)

    def _numbers(
        self, name: str, values: Any, what: str = "whole numbers"
    ) -> np.ndarray[Any, np.dtype[np.int64]]:
        if isinstance(values, Tensor):
            if flaw := flaw_of(values):
                raise VolleyError(f"{name} must be {what} [{self.games}]; found {flaw}")
            values = values.detach().cpu().numpy()
        numbers = np.asarray(values)
        if numbers.shape != (self.games,) or numbers.dtype.kind not in "biu":
            raise VolleyError(
                f"{name} must be {what} [{self.games}]; found {numbers.dtype} {list(numbers.shape)}"
            )
        return numbers.astype(np.int64)


def _one(number: Any) -> Any:
    """A number, as it comes, with a first axis of one."""
    return number[None] if isinstance(number, Tensor) else [number]
