from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.defenders.resize_pad import Padded, ResizePad, scaled
from arena.classifiers import Classifier
from arena.game.stack import prepare
from arena.game.stack_oracle import StackOracle


class Pooled(nn.Module):
    """Logits of images of any size: what a pool over the whole image gives."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean(dim=(2, 3))


def layer(back: bool = False, **parameters: Any) -> Padded:
    own = ResizePad(**parameters)
    return Padded(nn.Identity(), own.smallest, own.largest, own.fill, back).eval()


def by_hand(x: Tensor, r: list[int], offset: list[int], side: tuple[int, int], fill: float) -> Tensor:
    """One image [C,H,W], resized to r by `floor(i H / r)` and put into an empty one, pixel by pixel."""
    made = torch.full((x.shape[0], *side), fill)
    for i in range(r[0]):
        for j in range(r[1]):
            source = x[:, i * x.shape[1] // r[0], j * x.shape[2] // r[1]]
            made[:, offset[0] + i, offset[1] + j] = source
    return made


@pytest.mark.parametrize(
    ("size", "least", "most"),
    [(299, 310, 331), (224, 232, 248), (32, 33, 35), (28, 29, 31), (8, 8, 9), (4, 4, 4)],
)
def test_sizes_are_the_papers_scaled(size: int, least: int, most: int) -> None:
    assert (scaled(size, 310 / 299), scaled(size, 331 / 299)) == (least, most)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 12, 20)])
def test_an_image_is_resized_and_put_where_the_draws_say(shape: tuple[int, int, int]) -> None:
    x = torch.rand(40, *shape, generator=torch.Generator().manual_seed(0))
    drawn = torch.rand(40, 3, generator=torch.Generator().manual_seed(1))
    side = (scaled(shape[1], 331 / 299), scaled(shape[2], 331 / 299))
    found = layer(fill=0.25).padded(x, drawn)
    assert found.shape[2:] == side
    for image, (u, v, w), made in zip(x, drawn.double().tolist(), found, strict=True):
        least = [scaled(size, 310 / 299) for size in shape[1:]]
        r = [low + math.floor(u * (high - low + 1)) for low, high in zip(least, side, strict=True)]
        offset = [math.floor(t * (high - size + 1)) for t, high, size in zip((v, w), side, r, strict=True)]
        assert torch.equal(made, by_hand(image, r, offset, side, 0.25))


def test_all_sizes_and_places_are_drawn_alike() -> None:
    x = torch.ones(6000, 1, 32, 32)
    drawn = torch.rand(6000, 3, generator=torch.Generator().manual_seed(2))
    padded = layer().padded(x, drawn)[:, 0]
    r = padded.amax(2).sum(1)
    assert {33, 34, 35} == set(r.int().tolist())
    for size, places in ((33, 3), (34, 2), (35, 1)):
        mine = padded[r == size]
        assert len(mine) == pytest.approx(2000, abs=150)
        top = mine.amax(2).argmax(1)
        each = [len(mine) / places] * places
        assert torch.bincount(top, minlength=places).tolist() == pytest.approx(each, rel=0.15)


def test_the_last_draw_below_1_stays_within() -> None:
    x = torch.rand(1, 1, 224, 224)
    padded = layer(fill=0.0).padded(x + 1, torch.full((1, 3), 1 - 2.0**-24))
    assert padded.shape == (1, 1, 248, 248)
    assert (padded > 0).all()


def test_resized_back_it_is_every_nearest_pixel_of_the_padded_one() -> None:
    x, drawn = torch.rand(30, 3, 32, 32), torch.rand(30, 3)
    whole, back = layer().padded(x, drawn), layer(back=True).padded(x, drawn)
    at = torch.arange(32) * 35 // 32
    assert torch.equal(back, whole[:, :, at][:, :, :, at])


@pytest.mark.parametrize("takes_all", [True, False])
def test_networks_get_the_size_that_they_take(takes_all: bool, ask_as, digits) -> None:
    torch.manual_seed(0)
    network = Pooled() if takes_all else nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))
    base = Classifier(network, shape=(3, 32, 32), classes=5)
    stack = prepare(base, [ResizePad()], digits)
    assert stack.defenders[0].facts() == {"padded_to": [35, 35], "resized_back": not takes_all}
    x, rows = torch.rand(50, 3, 32, 32), ask_as(range(50), turn=4)
    oracle = StackOracle(stack, seed=3, games=50)
    answer = oracle.respond(x, rows).scores
    assert torch.equal(oracle.base_labels(x), base(x).argmax(1))
    assert (answer != base(x)).any(1).float().mean() > 0.9
    assert torch.equal(oracle.respond(x, rows).scores, answer)
    torch.testing.assert_close(oracle.respond(x[7:8], rows[7:8]).scores, answer[7:8], rtol=0, atol=1e-5)
    assert not torch.equal(oracle.respond(x, ask_as(range(50), turn=5)).scores, answer)


def test_square_finds_less(square) -> None:
    assert square("resize-pad", "base") > square("none") + 0.3


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"smallest": 0.0}, "smallest must be above 0 and at most largest"),
        ({"smallest": math.nan}, "smallest must be above 0 and at most largest"),
        ({"smallest": 1.2}, "smallest must be above 0 and at most largest 1.107"),
        ({"smallest": 0.5, "largest": 0.9}, "largest must be from 1 to 4; found 0.9"),
        ({"largest": math.inf}, "largest must be from 1 to 4; found inf"),
        ({"fill": -0.1}, "fill must be from 0 to 1; found -0.1"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        ResizePad(**parameters)
