"""Each check of attackers is shown an attacker that is broken in just the way that the check is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from arena.conformance import CheckResult, ConformanceError, attacker_checks, check_attacker, run_checks
from arena.conformance.stand_in_agents import Steps
from arena.players import Answers, Attacker, Games, Needs, Play, Volley

PATIENCE = 1.0
BUDGET = 8


@dataclass(frozen=True)
class Walk(Attacker):
    """Random steps, in hooks that the broken ones override; it plays a single threat, to be quick."""

    needs = Needs(feedback="logits", norms=("linf",), goals=("untargeted",), objectives=("first",))

    def begin(self, games: Games) -> None:
        pass

    def step(self, games: Games, i: Tensor) -> Tensor:
        return games.project(games.x0[i] + 0.05 * games.normal(games.x0.shape[1:], i), i)

    def hear(self, games: Games, answers: Answers) -> None:
        pass

    def play(self, games: Games) -> Play:
        self.begin(games)
        while len(i := games.open):
            self.hear(games, (yield from games.ask(self.step(games, i), i)))


@dataclass(frozen=True)
class Insider(Walk):
    """From its starting images to the clean ones, against the gradient; it uses all that is granted."""

    needs = Needs(norms=("l2",), goals=("targeted",), knowledge="weights", images=50, starts="always")

    def play(self, games: Games) -> Play:
        held = games.resources
        assert held.starts is not None and held.images is not None and len(held.images) == 50
        assert games.defense is not None
        yield from games.resign(games.open[held.starts[games.open].flatten(1).isnan().any(dim=1)], "no-start")
        x = held.starts.clone()
        while len(i := games.open):
            gradient = (yield from games.consult(x[i], i, "gradient")).insight
            score = (yield from games.consult(x[i], i, "detector")).insight
            assert gradient is not None and score is not None and score.shape == i.shape
            x[i] = (0.9 * x[i] + 0.1 * games.x0[i] - 0.01 * gradient.sign()).clamp(0, 1)
            answers = yield from games.ask(x[i], i)
            yield from games.note("score", score, i)
            won = answers.game[games.wrong(answers)]
            if games.threat.objective == "submit":
                yield from games.submit(x[won], won)


# What they declare


@dataclass
class Thawed(Attacker):
    needs = Walk.needs
    play = Walk.play
    begin, step, hear = Walk.begin, Walk.step, Walk.hear


@dataclass(frozen=True)
class NotJSON(Walk):
    rule: Any = field(default_factory=lambda: np.zeros(1))


def local_class() -> Attacker:
    @dataclass(frozen=True)
    class Local(Walk):
        pass

    return Local()


@dataclass(frozen=True)
class UnknownNorm(Walk):
    needs = Needs(norms=("l1",))  # type: ignore[arg-type]


@dataclass(frozen=True)
class NoNeeds(Walk):
    needs = {"norms": "linf"}  # type: ignore[assignment]  # noqa: RUF012


# What they do in ordinary plays


@dataclass(frozen=True)
class Crashes(Walk):
    def begin(self, games: Games) -> None:
        raise KeyError("tau")


@dataclass(frozen=True)
class NoGenerator(Walk):
    def play(self, games: Games) -> Play:
        return [Volley(games.x0, games.open)]  # type: ignore[return-value]


@dataclass(frozen=True)
class Spins(Walk):
    def play(self, games: Games) -> Play:
        yield from super().play(games)
        while True:
            games.distance(games.x0)


@dataclass(frozen=True)
class TalksOn(Walk):
    def play(self, games: Games) -> Play:
        while True:
            yield from games.note("still", "here", torch.zeros(1, dtype=torch.int64))


@dataclass(frozen=True)
class Doubles(Walk):
    def step(self, games: Games, i: Tensor) -> Tensor:
        return super().step(games, i).double()


@dataclass(frozen=True)
class AnotherGame(Walk):
    def play(self, games: Games) -> Play:
        yield Volley(games.x0[:1], torch.tensor([len(games)]))


@dataclass(frozen=True)
class Outside(Walk):
    def step(self, games: Games, i: Tensor) -> Tensor:
        return super().step(games, i) + 1


@dataclass(frozen=True)
class NotANumber(Walk):
    def step(self, games: Games, i: Tensor) -> Tensor:
        return super().step(games, i) / 0


@dataclass(frozen=True)
class AsksOn(Walk):
    def play(self, games: Games) -> Play:
        for _ in range(games.threat.budget):
            yield from games.ask(games.x0)


@dataclass(frozen=True)
class AsksTheClean(Walk):
    def play(self, games: Games) -> Play:
        if not len(games.open):
            yield from games.ask(games.x0)
        yield from super().play(games)


@dataclass(frozen=True)
class Relabels(Walk):
    def begin(self, games: Games) -> None:
        games.label.zero_()


@dataclass(frozen=True)
class SpendsItsState(Walk):
    def hear(self, games: Games, answers: Answers) -> None:
        games.left.sub_(1)


@dataclass(frozen=True)
class NeverSubmits(Walk):
    needs = Needs(norms=("linf",), objectives=("submit",), knowledge="weights")

    def play(self, games: Games) -> Play:
        x = games.x0.clone()
        while len(i := games.open):
            gradient = (yield from games.consult(x[i], i, "gradient")).insight
            assert gradient is not None
            x[i] = games.project(x[i] - 0.05 * gradient.sign(), i)
            yield from games.ask(x[i], i)


# What they do not do twice


@dataclass(frozen=True)
class OwnDraws(Walk):
    def step(self, games: Games, i: Tensor) -> Tensor:
        scale = float(np.random.default_rng().random())
        return games.x0[i] * (1 - 0.01 * scale)


@dataclass(frozen=True)
class CountsPlays(Walk):
    played: list[int] = field(default_factory=list)

    def begin(self, games: Games) -> None:
        self.played.append(len(games))

    def step(self, games: Games, i: Tensor) -> Tensor:
        return super().step(games, i) * (1 - 0.01 * len(self.played))


@dataclass(frozen=True)
class GlobalDraws(Walk):
    def step(self, games: Games, i: Tensor) -> Tensor:
        return super().step(games, i) * torch.rand(1)


@dataclass(frozen=True)
class Reseeds(Walk):
    def begin(self, games: Games) -> None:
        np.random.seed(0)  # noqa: NPY002


@dataclass(frozen=True)
class Averages(Walk):
    def step(self, games: Games, i: Tensor) -> Tensor:
        return 0.9 * games.x0[i] + 0.1 * games.x0.mean(dim=0)


@dataclass(frozen=True)
class CountsGames(Walk):
    def play(self, games: Games) -> Play:
        for _ in range(len(games)):
            if len(i := games.open):
                yield from games.ask(self.step(games, i), i)


# What they do not survive


@dataclass(frozen=True)
class LongVolleys(Walk):
    def play(self, games: Games) -> Play:
        while len(i := games.open):
            games.state = yield Volley(self.step(games, i), i)


@dataclass(frozen=True)
class NeedsTwoQueries(Walk):
    def begin(self, games: Games) -> None:
        assert games.threat.budget > 1


@dataclass(frozen=True)
class NeedsCompany(Walk):
    def step(self, games: Games, i: Tensor) -> Tensor:
        return super().step(games, i) / (len(games) > 1)


@dataclass(frozen=True)
class NeedsAGame(Walk):
    def begin(self, games: Games) -> None:
        games.x0[games.open].max()


@dataclass(frozen=True)
class HatesRefusals(Walk):
    def hear(self, games: Games, answers: Answers) -> None:
        at_play = answers.open[answers.game] & ~answers.banned.any(dim=1)[answers.game]
        assert not bool((answers.refused & at_play).any())


@dataclass(frozen=True)
class HatesBans(Walk):
    def hear(self, games: Games, answers: Answers) -> None:
        assert not bool(answers.banned.any())


@dataclass(frozen=True)
class HatesSilence(Walk):
    def hear(self, games: Games, answers: Answers) -> None:
        assert not bool((answers.answered & (answers.label < 0)).any())


@dataclass(frozen=True)
class HatesNaN(Walk):
    def hear(self, games: Games, answers: Answers) -> None:
        assert answers.scores is not None
        assert not bool(answers.scores[answers.answered].isnan().any())


@dataclass(frozen=True)
class HatesTies(Walk):
    def hear(self, games: Games, answers: Answers) -> None:
        assert answers.scores is not None
        assert not bool((answers.scores[answers.answered].diff(dim=1) == 0).any())


@dataclass(frozen=True)
class HatesContrast(Walk):
    def begin(self, games: Games) -> None:
        assert not bool(((games.x0 == 0) | (games.x0 == 1)).all())


BROKEN: list[tuple[Callable[[], Attacker], str, str]] = [
    (Thawed, "parameters", "must be a dataclass(frozen=True)"),
    (NotJSON, "parameters", "JSON"),
    (local_class, "parameters", "pickled"),
    (UnknownNorm, "needs", "needs.norms must be a tuple of one or more of l2, linf; found ('l1',)"),
    (NoNeeds, "needs", "must be an arena.players.Needs; found dict"),
    (Crashes, "plays", "KeyError: 'tau' (test_attacker_checks.py:"),
    (NoGenerator, "plays", "must be a generator"),
    (Spins, "plays", "computed for more than 1 s "),
    (TalksOn, "plays", "none was granted"),
    (Doubles, "form", "must be float32; found torch.float64"),
    (AnotherGame, "form", "game must be an index"),
    (Outside, "range", "must lie in [0,1]"),
    (NotANumber, "range", "must be finite"),
    (AsksOn, "closed", "after that game had closed, in its move"),
    (AsksTheClean, "closed", "asked for game 0 after that game had closed, in its move 1 "),
    (Relabels, "seat", "changed games.label in place"),
    (SpendsItsState, "seat", "changed games.state.left in place"),
    (NeverSubmits, "submit", "submitted in none"),
    (OwnDraws, "reproducible", "from the same seed: move 1 is a Volley with other images"),
    (CountsPlays, "stateless", "after another play"),
    (GlobalDraws, "generators", "depends on a global random generator"),
    (Reseeds, "generators", "disturbs the global random generator of numpy"),
    (Averages, "batch", "apart"),
    (CountsGames, "batch", "images and"),
    (LongVolleys, "rows", "3 rows at most"),
    (NeedsTwoQueries, "budget", "AssertionError"),
    (NeedsCompany, "games", "finite"),
    (NeedsAGame, "games", "RuntimeError"),
    (HatesRefusals, "refused", "every query refused"),
    (HatesBans, "banned", "banned at the first query"),
    (HatesNaN, "nan", "every query nan"),
    (HatesSilence, "nan", "every query nan"),
    (HatesTies, "constant", "answers all images alike"),
    (HatesContrast, "saturated", "every value of the images 0 or 1"),
]


def failed(outcomes: list[CheckResult]) -> dict[str, str]:
    return {outcome.name: outcome.sentence for outcome in outcomes if outcome.verdict == "failed"}


@pytest.mark.parametrize(("make", "check", "sentence"), BROKEN, ids=lambda v: getattr(v, "__name__", ""))
def test_a_broken_attacker_fails_one_check(make: Callable[[], Attacker], check: str, sentence: str) -> None:
    found = failed(run_checks(make(), budget=BUDGET, patience=PATIENCE))
    assert list(found) == [check], found
    assert sentence in found[check]


def test_every_check_of_attackers_has_a_broken_one() -> None:
    """But luck, which only remarks."""
    assert {check for _, check, _ in BROKEN} | {"luck"} == {check.name for check in attacker_checks()}


@pytest.mark.parametrize("attacker", [Walk(), Steps(), Insider()], ids=["Walk", "Steps", "Insider"])
def test_a_sound_attacker_passes_all_checks(attacker: Attacker) -> None:
    outcomes = run_checks(attacker, budget=BUDGET)
    assert [o.name for o in outcomes] == [check.name for check in attacker_checks()]
    assert {o.verdict for o in outcomes} == {"passed"}


def test_what_a_fault_hides_is_skipped() -> None:
    verdicts = {outcome.name: outcome.verdict for outcome in run_checks(Crashes(), budget=BUDGET)}
    assert verdicts["parameters"] == "passed"
    assert verdicts["batch"] == verdicts["nan"] == "skipped"


def test_check_attacker_says_in_one_sentence_what_is_wrong() -> None:
    with pytest.raises(ConformanceError, match=r'Outside fails the check "range": it sent a malformed move'):
        check_attacker(Outside(), budget=BUDGET)


def test_an_attacker_that_declares_to_learn_across_games_may_depend_on_its_batch() -> None:
    @dataclass(frozen=True)
    class Declares(Averages):
        across_games = True

    assert "batch" in failed(run_checks(Averages(), budget=BUDGET))
    assert "batch" not in failed(run_checks(Declares(), budget=BUDGET))


def test_an_attacker_without_draws_is_remarked_on() -> None:
    outcome = next(o for o in run_checks(AsksClean(), budget=BUDGET) if o.name == "reproducible")
    assert (outcome.verdict, outcome.sentence) == ("passed", "another seed made no difference")


@dataclass(frozen=True)
class AsksClean(Walk):
    def step(self, games: Games, i: Tensor) -> Tensor:
        return games.x0[i]


def test_checks_leave_the_global_generators_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    run_checks(GlobalDraws(), budget=BUDGET)
    assert torch.equal(torch.rand(1), expected)


# Luck


@dataclass(frozen=True)
class Lucky(Steps):
    needs = Needs(feedback="logits", norms=("linf",), goals=("untargeted",), objectives=("submit",))


def test_who_hands_in_first_wrong_answers_of_a_noisy_service_is_told_so() -> None:
    """A remark; who submits where answers are facts, and claims elsewhere, gets none."""

    @dataclass(frozen=True)
    class Careful(Lucky):
        def play(self, games: Games) -> Play:
            if games.answers_are_facts:
                yield from super().play(games)

    found = {}
    for attacker in (Lucky(), Careful()):
        results = run_checks(attacker, budget=60)
        found[type(attacker).__name__] = next(r for r in results if r.name == "luck")
    assert found["Lucky"].verdict == found["Careful"].verdict == "passed"
    assert "submitted lost their vote" in found["Lucky"].sentence
    assert found["Careful"].sentence == ""
