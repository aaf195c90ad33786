"""Clients: what they send, in closed form, and that their draws are keyed."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from arena.evaluation.benign.cameras import view
from arena.evaluation.benign.client import Heard
from arena.evaluation.benign.explanations import coalition, spread
from arena.evaluation.benign.kinds import CLIENTS
from arena.evaluation.benign.optimisers import BALL


def sent(name, x, key=None, answer=None, seed=3):
    """The queries of a session around images `x`, [t,s,C,H,W]; `answer` gives logits."""
    client = CLIENTS[name]
    key = torch.arange(len(x)) if key is None else key
    sending = client.send(x, key, seed)
    images = [next(sending)]
    for _ in range(client.queries - 1):
        scores = torch.zeros(len(x), 3) if answer is None else answer(images[-1])
        label = scores.argmax(1)
        images.append(sending.send(Heard(label, scores, label >= 0)))
    return torch.stack(images)


@pytest.fixture
def photos():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CLIENTS)
def test_a_session_is_an_image_each_and_depends_on_its_own_client_alone(name, photos):
    whole = sent(name, photos)
    assert whole.shape == (CLIENTS[name].queries, *photos.shape)
    assert whole.dtype == torch.float32 and whole.min() >= 0 and whole.max() <= 1
    alone = sent(name, photos[2:3], torch.tensor([2]))
    assert torch.equal(alone[:, 0], whole[:, 2])


@pytest.mark.parametrize("name", ["single", "repeats", "video", "occlusion", "lime", "shap", "optimiser-nes"])
def test_the_image_itself_comes_first(name, photos):
    assert torch.equal(sent(name, photos)[0], photos)


def test_repeats_are_the_same_image(photos):
    assert (sent("repeats", photos) == photos).all()


def test_a_view_without_shift_and_crop_is_the_image_and_shifts_are_in_parts_of_the_width(photos):
    one = torch.ones(4)
    assert torch.allclose(view(photos, one, torch.zeros(4, 2)), photos, atol=1e-6)
    two = torch.tensor([2 / 16, 0.0]).expand(4, 2)
    assert torch.allclose(view(photos, one, two)[:, :, :, :14], photos[:, :, :, 2:], atol=1e-5)
    corner = view(photos, one / 2, torch.tensor([-0.25, -0.25]).expand(4, 2))
    assert torch.allclose(corner[:, :, 1:-1:2, 1:-1:2].mean(), corner.mean(), atol=0.05)
    assert corner[:, :, 0, 0].eq(photos[:, :, 0, 0]).all()


def test_frames_of_a_video_are_near_each_other(photos):
    smooth = torch.nn.functional.avg_pool2d(photos, 5, 1, 2)
    frames = sent("video", smooth)
    steps = (frames[1:] - frames[:-1]).flatten(2).norm(dim=2) / smooth[0].numel() ** 0.5
    assert 0.002 < steps.mean() < 0.05
    assert (frames[-1] - frames[0]).abs().max() > 0.02


def test_ten_crops_are_five_and_their_mirror_images(photos):
    crops = sent("augmentation", photos)
    assert torch.equal(crops[1::2], crops[::2].flip(4))
    assert len({crop.numpy().tobytes() for crop in crops}) == 10


def test_occlusion_covers_every_pixel_with_a_grey_square(photos):
    hidden = sent("occlusion", photos)[1:] != photos
    assert hidden.any(dim=2).float().sum(dim=(2, 3)).max() == 16
    assert hidden.any(dim=0).any(dim=1).all()


def test_lime_hides_half_of_the_cells_by_their_mean(photos):
    images = sent("lime", photos)[1:]
    same = (images == photos).all(dim=2)
    assert 0.47 < same.float().mean() < 0.53
    cell = images[:, 0, :, :2, :2]  # 16 pixels in 7 cells: the first holds 3
    mean = photos[0, :, :3, :3].mean(dim=(1, 2))
    shown = torch.isclose(cell, photos[0, :, :2, :2]).flatten(1).all(dim=1)
    assert torch.allclose(cell[~shown], mean.view(1, 3, 1, 1).expand_as(cell[~shown]), atol=1e-6)


def test_coalitions_have_the_sizes_of_the_shapley_kernel():
    """P(s) is proportional to (M - 1) / (s (M - s)), and all coalitions of a size are equally likely."""
    m, n = 4, 40_000
    shown = coalition((2, 2), torch.arange(n), 1, 0).view(n, m)
    size = np.arange(1, m)
    weight = (m - 1) / (size * (m - size))
    counts = np.bincount(shown.sum(dim=1).numpy(), minlength=m + 1)
    assert counts[0] == counts[m] == 0
    assert counts[1:m] / n == pytest.approx(weight / weight.sum(), abs=0.01)
    assert shown.float().mean(dim=0).numpy() == pytest.approx(np.full(m, 0.5), abs=0.01)


def test_complements_follow_each_other(photos):
    images = sent("shap", photos)
    mean = photos.mean(dim=(2, 3), keepdim=True).expand_as(photos)
    assert torch.equal(images[1], mean)
    assert torch.allclose(images[2] + images[3], photos + mean, atol=1e-6)


def test_cells_cover_the_pixels():
    x = torch.zeros(1, 1, 7, 5)
    values = torch.arange(6.0).view(1, 1, 3, 2)
    rows = [[0, 1][c * 2 // 5] for c in range(5)]
    assert spread(values, x)[0, 0, 0].tolist() == rows
    assert spread(values, x)[0, 0, :, 0].tolist() == [2 * (r * 3 // 7) for r in range(7)]


@pytest.mark.parametrize("name", ["optimiser-square", "optimiser-nes"])
def test_optimisers_climb_the_score_of_the_images_own_class(name, photos):
    weights = torch.randn(3, photos[0].numel(), generator=torch.Generator().manual_seed(1)) / 5

    def answer(x):
        return x.flatten(1) @ weights.T

    photos = photos * 0.5 + 0.25
    own = answer(photos).argmax(1)
    images = sent(name, photos, answer=answer)
    risen = [answer(x).log_softmax(1).gather(1, own[:, None])[:, 0] for x in images]
    assert (torch.stack(risen).max(dim=0).values > 0.8 * risen[0]).all()
    assert (images - photos).abs().max() <= BALL + 0.005


def test_an_optimiser_that_is_refused_stays_where_it_is(photos):
    client = CLIENTS["optimiser-square"]
    sending = client.send(photos, torch.arange(4), 0)
    x = next(sending)
    silent = Heard(torch.full((4,), -1), torch.full((4, 3), torch.nan), torch.zeros(4, dtype=torch.bool))
    for x in islice(iter(lambda: sending.send(silent), None), 5):
        moved = (x != photos).any(dim=1).flatten(1).sum(dim=1)
        assert (moved <= 16).all()  # one square of the image, not several
