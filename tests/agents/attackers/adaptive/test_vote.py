from dataclasses import dataclass, replace
from math import comb
from pathlib import Path

import pytest
import torch

import arena
from agents.attackers.adaptive.vote import Vote
from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.score.square import Square
from agents.defenders.snd import SND
from arena.classifiers import ClassifierSpec, load_classifier
from arena.datasets import DatasetSpec, load_dataset
from arena.players import Attacker, Consult, Needs
from arena.rules.threat import Threat

ROW = (((0,), "probe"),)


def test_each_decision_is_the_most_frequent_of_its_labels(says, asks):
    probe = asks(ROW * 3)
    tied = [2, 0, 1]
    played = says([1, 0, 1, *tied, 3, 3, 0]).play(Vote(probe, repeats=3))
    assert [answers.label.tolist() for answers in probe.heard[1:]] == [
        [1],
        [0],
        [3],
    ]
    assert played.volleys == [3, 3, 3]
    assert played.purposes(0) == ["probe"] * 9


def test_it_hears_labels_alone_whatever_the_feedback(says, asks):
    probe = asks(ROW)
    says([1, 1, 0], feedback="logits").play(Vote(probe, repeats=3))
    games, answers = probe.heard
    assert games.threat.feedback == "label" and answers.scores is None


def test_the_error_of_a_noisy_decision_falls_as_a_majority_does(referee, images, asks):
    """A share p of single answers is wrong: sum over j > T/2 of C(T,j) p^j (1-p)^(T-j) of the votes are."""
    p, times, games = 0.3, 5, 4000
    draws = torch.rand(games, times, generator=torch.Generator().manual_seed(0)) < p

    def model(x, game, turn):
        return torch.nn.functional.one_hot(draws[game, turn - 1].long(), 2).float()

    threat = Threat(epsilon=1.0, budget=times, feedback="label", objective="submit")
    probe = asks(((tuple(range(games)), "probe"),))
    table = referee(model, images(games, (1, 2, 2)), torch.zeros(games, dtype=torch.int64), threat)
    table.play(Vote(probe, repeats=times))
    wrong = sum(comb(times, j) * p**j * (1 - p) ** (times - j) for j in range(3, 6))
    found = float(probe.heard[1].label.float().mean())
    assert found == pytest.approx(wrong, abs=4 * (wrong * (1 - wrong) / games) ** 0.5)


@pytest.mark.parametrize(("budget", "decisions", "last"), [(20, 4, 5), (23, 5, 3), (4, 1, 4), (1, 1, 1)])
def test_the_last_decision_takes_what_is_left(says, asks, budget, decisions, last):
    probe = asks(ROW * decisions)
    script = [0] * (budget - last) + [1] * last
    played = says(script, budget=budget).play(Vote(probe, repeats=5))
    games, *heard = probe.heard
    assert games.threat.budget == decisions
    assert [int(answers.left) for answers in heard] == list(range(decisions - 1, -1, -1))
    assert heard[-1].label.tolist() == [1] and heard[-1].answered.tolist() == [True]
    assert len(played.asked[0]) == budget and not played.open[0]


@pytest.mark.parametrize("budget", [1, 7, 60])
def test_the_true_budget_is_used_up_and_never_exceeded(referee, linear, images, budget):
    threat = Threat(norm="l2", epsilon=9.0, budget=budget, feedback="label", objective="minimum")
    model = linear((1, 4, 4))
    x0 = images(3, (1, 4, 4))
    label = model(x0, torch.arange(3), torch.ones(3)).argmax(dim=1)
    played = referee(model, x0, label, threat).play(Vote(HopSkipJump(init_draws=50), repeats=3))
    assert [len(asked) for asked in played.asked] == [budget] * 3


def test_under_first_a_hit_among_the_repeats_ends_the_game_at_once(says, asks):
    probe = asks(ROW)
    played = says([0, 0, 1], objective="first").play(Vote(probe, repeats=5))
    assert played.hits == [[3]] and len(played.asked[0]) == 3
    heard = probe.heard[1]
    assert heard.open.tolist() == [False] and heard.label.tolist() == [0]  # two of three said 0


def test_the_conventions_of_the_budget():
    assert Vote(HopSkipJump(), repeats=7).budget_factor == 1
    assert Vote(HopSkipJump(), repeats=7, convention="adaptive").budget_factor == 7
    nested = Vote(Vote(HopSkipJump(), repeats=7, convention="adaptive"), repeats=3, convention="adaptive")
    assert nested.budget_factor == 21


@dataclass(frozen=True)
class Others(Attacker):
    """Makes one move of each other kind, and keeps what it hears."""

    heard: list

    needs = Needs(knowledge="detector")

    def play(self, games):
        i = torch.arange(2)
        self.heard.append((yield Consult(games.x0, i)))
        self.heard.append((yield from games.note("key", "value", i)))
        self.heard.append((yield from games.claim(games.x0, i)))
        self.heard.append((yield from games.submit(games.x0[:1], i[:1])))
        self.heard.append((yield from games.resign(i[1:], "no-start")))


def test_all_other_moves_are_passed_on(referee, linear, images):
    model, x0 = linear((1, 4, 4)), images(2, (1, 4, 4))
    threat = Threat(epsilon=1.0, budget=20, feedback="label", objective="submit")
    table = referee(model, x0, torch.zeros(2, dtype=torch.int64), threat)
    seen, serve = [], table.serve

    def served(move):
        seen.append(type(move).__name__)
        return replace(table.state(), insight=torch.ones(2)) if isinstance(move, Consult) else serve(move)

    table.serve = served
    inner = Others([])
    table.play(Vote(inner, repeats=5))
    assert seen == ["Consult", "Note", "Claim", "Submit", "Resign"]
    assert inner.heard[0].insight.tolist() == [1, 1]
    assert [answers.left.tolist() for answers in inner.heard] == [[4, 4]] * 5
    assert inner.heard[-1].open.tolist() == [False, False]
    assert Vote(inner).needs == inner.needs


@pytest.mark.slow
def test_behind_small_noise_more_repeats_leave_less_of_the_true_accuracy():
    """On digits, at 300 decisions: by the base verdict, which is blind to the luck of noisy answers."""
    data = load_dataset(DatasetSpec(name="digits"), [Path()])
    classifier = load_classifier(ClassifierSpec(network="digits-cnn"), data, torch.device("cpu"))
    x, y = data.games.take(slice(0, 24)), data.games.labels[:24]
    rules = {"norm": "l2", "epsilon": 1.3, "budget": 300, "feedback": "label", "objective": "minimum"}

    def accuracy(attack):
        run = arena.play(attack, SND(0.03), classifier=classifier, images=x, labels=y, threat=rules, votes=1)
        return run.accuracy("base", at=300 * attack.budget_factor)

    attack = HopSkipJump(delta_rule="art", initial_probes=60)
    plain, voted = accuracy(attack), accuracy(Vote(attack, repeats=9, convention="adaptive"))
    assert plain > 0.7 and voted < plain - 0.15


def test_errors():
    said = "Vote goes around attackers that decide by labels; Square needs scores"
    with pytest.raises(ValueError, match="repeats must be at least 1; found 0"):
        Vote(HopSkipJump(), repeats=0)
    with pytest.raises(ValueError, match=said):
        Vote(Square())
