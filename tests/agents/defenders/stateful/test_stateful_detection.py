from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.defenders.stateful.encoder import Encoder, changed, contrast, train_encoder
from agents.defenders.stateful.neighbours import NeighbourIndex, mean_distances
from agents.defenders.stateful.stateful_detection import StatefulDetection
from arena.conformance.tiny_worlds import tiny_world
from arena.datasets.loading import load_dataset
from arena.rules.moves import Volley
from arena.rules.threat import Threat


def points(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(seed))


def add(index: NeighbourIndex, x: Tensor, flagged: Tensor | None = None) -> None:
    index.add(x, x[:, :2], torch.zeros(len(x), dtype=torch.bool) if flagged is None else flagged)


def test_mean_distances_leave_out_the_point_itself() -> None:
    x = points(40)
    apart = (x.double()[:, None] - x.double()).norm(dim=2)
    expected = apart.sort(dim=1).values[:, 1:6].mean(dim=1)
    assert torch.allclose(mean_distances(x, 5), expected, atol=1e-5)


def test_alarms_are_those_of_the_mean_distance_to_the_k_nearest() -> None:
    seen, asked = points(30), points(25, seed=1)
    apart = (asked.double()[:, None] - seen.double()).norm(dim=2)
    mean = apart.sort(dim=1).values[:, :7].mean(dim=1)
    index = NeighbourIndex(100, 7, float(mean.median()) + 1e-4)
    add(index, seen)
    alarm, number = index.find(asked)
    assert alarm.equal(mean < index.delta)
    assert 0 < alarm.sum() < 25
    assert number.equal(apart.argmin(dim=1))
    assert index.answers.take(number).equal(seen[number, :2])


def test_the_first_k_are_not_tested_and_a_flag_begins_a_new_history() -> None:
    index, x = NeighbourIndex(100, 3, 0.1), torch.zeros(1, 4)
    for turn in range(12):
        alarm = index.find(x)[0]
        assert alarm.tolist() == [turn % 4 == 3]
        add(index, x, alarm)
    assert len(index.points) == len(index.answers) == 0


def test_rows_that_are_remembered_together_begin_a_new_history_after_the_one_that_is_an_alarm() -> None:
    index, zeros = NeighbourIndex(100, 3, 0.1), torch.zeros(5, 4)
    add(index, zeros[:3])
    far = torch.full((1, 4), 9.0)
    flagged = torch.tensor([True, False, True, True])
    add(index, torch.cat([far, far, zeros[:1], far + 9]), flagged)
    assert index.points.rows().tolist() == [[18.0] * 4], "another's flag on a far point clears nothing"


def test_a_stream_around_one_point_is_flagged_every_51st_query(worlds: Any) -> None:
    """refs/defenses.md, section 5: floor(Q / 51) bans."""
    defender = StatefulDetection(delta=0.5, action="silent")._with(0.5, None)
    threat = Threat(epsilon=4 / 16, budget=400, objective="submit")
    referee, record = worlds.referee([defender], threat=threat, x0=worlds.images([(8, 6, 8, 8)] * 2))
    near = referee.board.x0[:1] + 0.01 * torch.rand(300, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    referee.ask(Volley(near[:200].clamp(0, 1), torch.zeros(200, dtype=torch.int64)))
    referee.ask(Volley(near.clamp(0, 1)[:100], torch.ones(100, dtype=torch.int64)))
    turns = [(row["game"], row["turn"]) for row in worlds.log_of(record) if row["flagged"]]
    assert turns == [(0, 51), (0, 102), (0, 153), (1, 51)]


@pytest.mark.parametrize("embedding", ["pixels", "encoder"])
def test_fit_calibrates_the_percentile_and_is_read_back(embedding: Any) -> None:
    world = tiny_world(1, "cpu")
    defender = StatefulDetection(k=3, embedding=embedding, epochs=2)
    fitted = defender.fit(world.classifier, world)
    x = world.train.images
    delta = float(mean_distances(fitted.features(x), 3).quantile(0.001))
    assert fitted.facts()["delta"] == pytest.approx(delta, rel=1e-4)
    again = StatefulDetection(k=3, embedding=embedding, epochs=2).restore(fitted.state(), world.classifier)
    assert again.features(x).equal(fitted.features(x))
    assert again.facts() == fitted.facts()
    assert defender.fit(world.classifier, world).features(x).equal(fitted.features(x))


def test_a_given_delta_needs_no_images() -> None:
    world = tiny_world(1, "cpu")
    assert StatefulDetection(delta=5.069).fit(world.classifier, world).facts() == {"delta": 5.069}


@pytest.mark.slow
def test_the_encoder_keeps_changed_copies_nearer_than_other_images() -> None:
    """Nearer, in proportion, than a network that has learnt nothing does, and than the pixels are."""
    data = load_dataset("digits")
    x = data.splits["games"].take(slice(0, 100))
    z = changed(x, torch.Generator().manual_seed(1))
    before, after = Encoder((1, 8, 8)), train_encoder(data.splits["train"].take(slice(0, 640)), 8, 3)
    before.draw_weights(3)

    def ratio(points: Callable[[Tensor], Tensor]) -> float:
        with torch.no_grad():
            a, b = points(x), points(z)
        return float((a - b).norm(dim=1).mean() / (a - a.roll(1, 0)).norm(dim=1).mean())

    assert ratio(after) < 0.8 * ratio(before)
    assert ratio(after) < 0.9 * ratio(lambda images: images.flatten(1))


def test_the_loss_by_hand() -> None:
    a = torch.zeros(2, 256)
    a[0, 0], a[1, 1] = 3, 4
    b = a.clone()
    b[1, 2] = 2
    assert contrast(a, b).tolist() == pytest.approx([0, 4]), "5 apart is beyond the margin"
    assert contrast(a / 5, a / 5).tolist() == pytest.approx([9] * 2, rel=1e-5)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 8, 12), (3, 4, 4)])
def test_the_encoder_fits_the_image(shape: tuple[int, ...]) -> None:
    encoder = Encoder(shape)
    assert encoder(torch.zeros(2, *shape)).shape == (2, 256)
    if shape == (3, 32, 32):
        assert encoder.hidden.in_features == 2304


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"k": 0}, "k must be from 1 to capacity 10000; found 0"),
        ({"delta": float("nan")}, "delta must be finite and above 0, or not given; found nan"),
        ({"embedding": "clip"}, 'embedding must be one of "pixels", "encoder"; found "clip"'),
        ({"epochs": 0}, "epochs must be from 1 to 10000; found 0"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StatefulDetection(**parameters)


def test_it_must_be_fitted() -> None:
    with pytest.raises(ValueError, match="must be fitted first"):
        StatefulDetection().index((1, 8, 8))
