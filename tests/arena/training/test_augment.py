from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from arena.training.augment import affine, augmentation, crop, resized_crop


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def images(n: int, side: int = 6) -> Tensor:
    """Images [n,2,side,side] whose pixels all differ and are never 0."""
    return (torch.arange(n * 2 * side * side).view(n, 2, side, side) + 1) / (n * 2 * side * side)


@pytest.mark.parametrize(
    ("name", "pad", "mirror"), [("shift", 2, False), ("crop", 4, False), ("crop-flip", 4, True)]
)
def test_each_image_is_one_of_the_windows_of_its_padded_self(name: str, pad: int, mirror: bool) -> None:
    x = images(400)
    out = augmentation(name)(x, generator())
    padded = F.pad(x, (pad, pad, pad, pad))
    windows = [padded[..., t : t + 6, s : s + 6] for t in range(2 * pad + 1) for s in range(2 * pad + 1)]
    known = torch.stack([*windows, *(w.flip(3) for w in windows if mirror)])  # [windows, n, 2, 6, 6]
    is_window = (known == out).flatten(2).all(2)
    assert is_window.any(0).all()
    seen = is_window[: len(windows)].any(1) if not mirror else is_window.any(1)
    assert seen.double().mean() > 0.7  # 400 draws from 25, 81 or 162 windows
    mirrored = is_window[len(windows) :].any(0).double().mean()
    assert float(mirrored.nan_to_num()) == pytest.approx(0.5 if mirror else 0.0, abs=0.1)


def test_draws_come_from_the_generator_alone() -> None:
    x, state = images(20), torch.get_rng_state()
    for name in ("shift", "crop", "crop-flip", "resized-crop-flip", "affine"):
        first, again, other = (augmentation(name)(x, generator(seed)) for seed in (1, 1, 2))
        assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert augmentation("none")(x, generator()) is x


def test_affine_is_the_identity_without_range() -> None:
    x = images(20)
    assert torch.allclose(affine(x, generator(), (0.0,) * 5), x, atol=1e-5)


def test_shifts_of_affine_are_in_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """With draws of their upper ends, content moves by whole pixels up and left, zeros coming in."""
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: torch.ones(*shape))
    x = images(20)
    moved = affine(x, generator(), (0.0, 0.0, 0.0, 1.0, 2.0))
    assert torch.allclose(moved[..., :-2, :-1], x[..., 2:, 1:], atol=1e-5)
    assert not moved[..., -2:, :].any()


def test_rotation_of_affine_is_a_quarter_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: torch.ones(*shape))
    x = images(5)
    turned = affine(x, generator(), (math.pi / 2, 0.0, 0.0, 0.0, 0.0))
    assert torch.allclose(turned, x.rot90(1, (2, 3)), atol=1e-5)


def test_a_resized_crop_is_a_part_of_the_image_of_the_right_area_and_ratio() -> None:
    """On ramps along both axes the output is again a ramp: its slopes are the part's sides, its middle the
    part's middle."""
    side, n = 32, 500
    places = (2 * torch.arange(side) + 1) / side - 1  # of the pixels, in half image sides
    ramps = torch.stack([places.expand(side, side), places[:, None].expand(side, side)]).expand(n, -1, -1, -1)
    out = resized_crop(ramps, generator())[..., 8:24, 8:24]  # away from the rim, where zeros come in
    across, down = out[:, 0, 0], out[:, 1, :, 0]
    assert torch.allclose(out[:, 0], across[:, None].expand(-1, 16, -1), atol=1e-5)
    width, height = ((part[:, -1] - part[:, 0]) * side / 30 for part in (across, down))
    share, ratio = width.abs() * height, width.abs() / height
    assert float((width < 0).double().mean()) == pytest.approx(0.5, abs=0.1)
    whole = (width.abs() > 0.999) | (height > 0.999)
    assert 0.079 < share[~whole].min() < 0.12 and share.max() < 1.001
    assert 0.74 < ratio[~whole].min() < 0.78 and 1.29 < ratio[~whole].max() < 1.34
    for part, sides in ((across, width), (down, height)):
        middle = part.mean(1)
        assert ((middle.abs() + sides.abs()) < 1.001).all() and middle.abs().max() > 0.4
    assert torch.allclose(
        resized_crop(ramps, generator(), (1.0, 1.0), (1.0, 1.0)).abs(), ramps.abs(), atol=1e-5
    )


def test_a_crop_without_padding_changes_nothing() -> None:
    x = images(3)
    assert torch.equal(crop(x, generator(), pad=0), x)
