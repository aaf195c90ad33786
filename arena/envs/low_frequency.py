"""Small action spaces: perturbations of few superpixels, or of few cosines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorActionWrapper, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from arena.rules.moves import VolleyError

Basis = Literal["superpixels", "dct"]
_TINY = 1e-30


class Patterns:
    """Perturbations [C,H,W] from few numbers [C,k,k], both from -1 to 1; any axes may stand before these.

    With `superpixels` each number fills a rectangle of the image: pixel (i, j) has number (floor(i k / H),
    floor(j k / W)). With `dct` they are the coefficients of the k x k lowest cosines of the DCT-II,
    cos(pi (i + 1/2) u / H) cos(pi (j + 1/2) v / W), and the pattern is scaled so that its largest entry is as
    large as the largest coefficient. Numbers beyond [-1,1] count as the nearest of -1 and 1.
    """

    def __init__(self, space: spaces.Space[Any], size: int, basis: Basis) -> None:
        box = space.get("perturbation") if isinstance(space, spaces.Dict) else space
        if not isinstance(box, spaces.Box) or len(box.shape) != 3 or (box.low != -1).any():
            raise ValueError(f'an environment with action="perturbation" is needed; its actions are {space}')
        channels, height, width = box.shape
        if not 1 <= size <= min(height, width):
            raise ValueError(f"size must be from 1 to {min(height, width)}; found {size}")
        if basis not in get_args(Basis):
            raise ValueError(f'basis must be "superpixels" or "dct"; found {basis!r}')
        self.basis, self.shape, self._sides = basis, (channels, size, size), (height, width)
        small = spaces.Box(-1, 1, self.shape, np.float32)
        self.space = (
            spaces.Dict({**space, "perturbation": small}) if isinstance(space, spaces.Dict) else small
        )

    def action(self, action: Any) -> Any:
        """The action [...,C,H,W] of a small one."""
        if isinstance(action, Mapping):
            return {**action, "perturbation": self.action(action["perturbation"])}
        if not isinstance(action, Tensor | np.ndarray) or tuple(action.shape[-3:]) != self.shape:
            found = getattr(action, "shape", type(action).__name__)
            raise VolleyError(f"perturbation must be an array or a tensor {list(self.shape)}; found {found}")
        if isinstance(action, np.ndarray):
            return self._pattern(torch.from_numpy(action.copy())).numpy()
        return self._pattern(action)

    def _pattern(self, numbers: Tensor) -> Tensor:
        numbers, size = numbers.clamp(-1, 1), self.shape[-1]
        if self.basis == "superpixels":
            i, j = (torch.arange(side, device=numbers.device) * size // side for side in self._sides)
            return numbers[..., i[:, None], j]
        with torch.autocast(numbers.device.type, enabled=False):
            rows, columns = (_cosines(side, size).to(numbers) for side in self._sides)
            pattern = rows @ numbers @ columns.T
        return pattern * (_peak(numbers) / _peak(pattern).clamp_min(_TINY))


class LowFrequency(gymnasium.ActionWrapper[Any, Any, Any], RecordConstructorArgs):
    """An environment whose actions are perturbations of few numbers, [C,k,k] from -1 to 1 (`Patterns`).

    Args:
        env: with `action="perturbation"`, the default.
        size: k, from 1 to the image's side.
        basis: `superpixels` or `dct`.

    Raises:
        ValueError: if one of these does not fit.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], size: int = 4, basis: Basis = "superpixels") -> None:
        RecordConstructorArgs.__init__(self, size=size, basis=basis)
        gymnasium.ActionWrapper.__init__(self, env)
        self.patterns = Patterns(env.action_space, size, basis)
        self.action_space = self.patterns.space

    def action(self, action: Any) -> Any:
        return self.patterns.action(action)


class VectorLowFrequency(VectorActionWrapper):
    """`LowFrequency` of a vector environment."""

    def __init__(self, env: VectorEnv[Any, Any, Any], size: int = 4, basis: Basis = "superpixels") -> None:
        super().__init__(env)
        self.patterns = Patterns(env.single_action_space, size, basis)
        self.single_action_space = self.patterns.space
        self.action_space = batch_space(self.single_action_space, env.num_envs)

    def step(self, actions: Any, **options: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """A step of small actions; options such as `send` go on to the environment."""
        return self.env.step(self.actions(actions), **options)

    def actions(self, actions: Any) -> Any:
        return self.patterns.action(actions)


def _cosines(pixels: int, size: int) -> Tensor:
    """[pixels,k]: the k lowest cosines at each pixel."""
    return torch.cos(torch.pi * (torch.arange(pixels)[:, None] + 0.5) * torch.arange(size) / pixels)


def _peak(pattern: Tensor) -> Tensor:
    return pattern.abs().amax(dim=(-3, -2, -1), keepdim=True)
