"""Benign losses: closed forms for defenders that refuse repeats, flip labels, ban and decline."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from arena.classifiers import Classifier
from arena.datasets.own_arrays import read_split
from arena.evaluation.benign.kinds import CLIENTS
from arena.evaluation.benign.losses import BenignLoss, mean_share
from arena.evaluation.benign.plan import Traffic, read_traffic
from arena.evaluation.benign.playing import BenignTraffic
from arena.game.stack import Stack
from arena.players import Defender
from arena.statistics import wilson


@dataclass(frozen=True)
class RefusesRepeats(Defender):
    """Refuses what the service, or the account, was asked before, to the bit."""

    scope: str = "service"
    action: str = "refused"

    @property
    def memory(self):
        return self.scope

    def start(self, shape, accounts, device):
        return set()

    def _names(self, x, rows):
        games = rows.game.tolist() if self.scope == "account" else [0] * len(x)
        return [(game, row.cpu().numpy().tobytes()) for game, row in zip(games, x, strict=True)]

    def watch(self, x, rows, response):
        known = torch.tensor([name in rows.memory for name in self._names(x, rows)], device=x.device)
        return replace(response, **{self.action: known})

    def remember(self, x, rows, response):
        rows.memory.update(self._names(x, rows))


@dataclass(frozen=True)
class FlipsLabels(Defender):
    """Answers another label with probability q."""

    random: ClassVar[bool] = True
    q: float = 0.3

    def rewrite(self, scores, rows):
        flipped = rows.uniform((1,)) < self.q
        return torch.where(flipped, scores.roll(1, 1), scores)


@dataclass(frozen=True)
class Declines(Defender):
    def rewrite(self, scores, rows):
        return torch.zeros_like(scores)


class Bright(nn.Module):
    """Class by how bright the image is."""

    def forward(self, x):
        mean = x.flatten(1).mean(dim=1)
        return -(mean[:, None] - torch.tensor([0.2, 0.5, 0.8])).abs() * 20


@pytest.fixture(scope="module")
def world():
    images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    classifier = Classifier(Bright(), shape=(1, 8, 8), classes=3, batch=32)
    labels = classifier(images).argmax(1)
    labels[:3] = torch.arange(3)
    return classifier, read_split(images, labels)


def losses(world, defender, sessions=10, **how):
    classifier, split = world
    traffic = Traffic(sessions=sessions, **how).within(split)
    found = BenignTraffic(classifier, split, traffic).of(Stack(classifier, (defender,)))
    return {(loss.client, loss.history): loss for loss in found}


def test_a_refuser_of_repeats_refuses_all_but_the_first(world):
    found = losses(world, RefusesRepeats(), clients=("single", "repeats"), histories=("empty", "benign-50"))
    r = CLIENTS["repeats"].queries
    for history in ("empty", "benign-50"):  # the others have other images
        single, repeats = found["single", history], found["repeats", history]
        assert single.share("refused") == (0, *wilson(0, 10))
        assert single.sessions_lost == 0
        assert repeats.refused == 10 * (r - 1) and repeats.queries == 10 * r
        assert repeats.share("refused")[0] == pytest.approx((r - 1) / r)
        assert repeats.share_of_sessions("refused") == (1, *wilson(10, 10))
        assert (repeats.banned, repeats.flagged, repeats.altered, repeats.sessions_altered) == (0, 0, 0, 0)


def test_whoever_knows_the_images_can_have_them_refused(world):
    found = losses(
        world, RefusesRepeats(), clients=("single", "repeats"), histories=("poison-40", "attacker-40")
    )
    for client in ("single", "repeats"):
        assert found[client, "poison-40"].share("refused")[0] == 1
    assert found["single", "attacker-40"].refused == 0
    few = losses(world, RefusesRepeats(), clients=("single",), histories=("poison-4",))
    assert few["single", "poison-4"].refused == 4


def test_memory_of_an_account_meets_no_history_of_others(world):
    found = losses(world, RefusesRepeats("account"), clients=("repeats",))
    assert list(found) == [("repeats", "empty")]
    assert found["repeats", "empty"].share("refused")[0] == 0.9


def test_a_closed_account_is_asked_no_more(world):
    """Banned at the second query: all from then on are refused and banned, and none is asked."""
    loss = losses(world, RefusesRepeats(action="banned"), clients=("repeats",), histories=("empty",))
    repeats = loss["repeats", "empty"]
    assert repeats.refused == repeats.banned == 90
    assert repeats.sessions_banned == 10


def test_flags_are_no_loss(world):
    loss = losses(world, RefusesRepeats(action="flagged"), clients=("repeats",), histories=("empty",))
    repeats = loss["repeats", "empty"]
    assert (repeats.flagged, repeats.refused, repeats.lost, repeats.sessions_lost) == (90, 0, 0, 0)


def test_a_random_flipper_alters_its_rate(world):
    q = 0.3
    found = losses(world, FlipsLabels(q=q), sessions=30, clients=("lime",), draws=4)
    lime = found["lime", "empty"]
    assert lime.draws == 4 and lime.queries == 3000
    value = lime.altered / lime.queries
    assert abs(value - q) < 4 * math.sqrt(q * (1 - q) / (4 * 3000))
    assert lime.share("altered")[1] < q < lime.share("altered")[2]
    assert lime.sessions_lost == 30
    assert (lime.altered * 4) % 1 == 0


def test_declined_answers_are_lost_but_not_altered(world):
    single = losses(world, Declines(), clients=("single",))["single", "empty"]
    assert (single.declined, single.altered, single.refused, single.sessions_lost) == (10, 0, 0, 10)
    assert single.lost == 10


@dataclass(frozen=True)
class DeclinesOrFlips(Defender):
    """Declines half of what it is asked, and answers the rest with another label."""

    random: ClassVar[bool] = True

    def respond(self, x, rows, inner):
        response = inner(x, rows)
        return replace(response, scores=response.scores.roll(1, 1), declined=rows.uniform(()) < 0.5)


def test_a_query_is_lost_once_however_fresh_answers_to_it_would_be(world):
    lime = losses(world, DeclinesOrFlips(), sessions=10, clients=("lime",), draws=4)["lime", "empty"]
    assert 400 < lime.declined < 600
    assert 0 < lime.altered <= lime.queries - lime.declined
    assert lime.lost <= lime.queries


def test_nothing_is_lost_without_a_defender_and_no_delay_is_told(world):
    for loss in losses(world, Defender(), sessions=3).values():
        assert loss.lost == loss.flagged == 0
        assert (loss.sessions, loss.draws) == (3, 1)


def test_the_same_traffic_gives_the_same_counts_and_some_of_it_the_same(world):
    classifier, split = world
    clients, histories = ("single", "video", "lime"), ("empty", "benign-70", "poison-20")
    traffic = Traffic(sessions=6, clients=clients, histories=histories, draws=2).within(split)
    stack = Stack(classifier, (RefusesRepeats(), FlipsLabels()))

    def told(parts=None):
        found = BenignTraffic(classifier, split, traffic).of(stack, parts, delay=False)
        return {(loss.client, loss.history): loss for loss in found}

    whole = told()
    assert len(whole) == 9
    some = [("video", "benign-70"), ("lime", "poison-20"), ("single", "empty")]
    for part, loss in told(some).items():
        assert str(loss) == str(whole[part])  # NaN equals itself there


def test_what_cannot_be_copied_is_filled_again(world, monkeypatch):
    class Elsewhere(set):
        def __deepcopy__(self, memo):
            raise NotImplementedError

    class Apart(RefusesRepeats):
        def start(self, shape, accounts, device):
            return Elsewhere()

    asked = {"clients": ("repeats", "video", "single"), "histories": ("benign-60", "poison-20")}
    apart, own = losses(world, Apart(), **asked), losses(world, RefusesRepeats(), **asked)
    assert {p: (v.refused, v.lost) for p, v in apart.items()} == {
        p: (v.refused, v.lost) for p, v in own.items()
    }


def test_sessions_leave_half_of_the_images_to_others(world):
    assert Traffic(sessions=500).within(world[1]).sessions == 30


def test_what_a_plan_asks(world):
    traffic = Traffic(sessions=3, clients=("single", "repeats"), histories=("empty", "benign-100"), draws=4)
    assert traffic.images(shared=True) == 2 * 3 * 11 + 100
    assert traffic.images(shared=False, draws=4) == 3 * 11 * 4
    assert Traffic().images(shared=True) == 0


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("clients", ["vidoe"], 'there is no such client; did you mean "video"?'),
        ("histories", ["benign"], "with N from 1 to 1,000,000"),
        ("histories", ["benign-0"], "found 'benign-0'"),
        ("histories", ["poison-2000000"], "found 'poison-2000000'"),
        ("sessions", -1, "greater than or equal to 0"),
        ("draws", 0, "greater than or equal to 1"),
    ],
)
def test_a_plan_says_what_is_wrong(key, value, said):
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        Traffic(**{key: value})


@pytest.mark.parametrize("value", ["x", True, 2.5, None])
def test_traffic_is_a_number_or_a_table(value):
    with pytest.raises(
        ValueError, match=r"benign: found .*; it must be a whole number of sessions, or a table"
    ):
        read_traffic(value)
    assert read_traffic(3) == read_traffic({"sessions": 3}) == Traffic(sessions=3)


def test_the_mean_over_kinds():
    def loss(client, sessions, refused, queries):
        return BenignLoss(client, "empty", sessions, queries, 1, refused, 0, 0, 0, 0.0, 1, 0, 0, 0, 1)

    one, other = loss("single", 10, 5, 10), loss("video", 10, 0, 300)
    assert mean_share([one, other], "lost") == (0.25, *wilson(2.5, 10)), "ten images, not twenty sessions"
    assert math.isnan(mean_share([], "lost")[0])
