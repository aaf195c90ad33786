"""What is asked of an attacker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import cast

from arena.conformance.attacker_trials import BUDGET, FATAL, AttackerSubject
from arena.conformance.examples import example
from arena.conformance.parameters import check_parameters
from arena.conformance.results import Check, CheckResult, ConformanceError, raise_first, results_of
from arena.conformance.watched_play import (
    PATIENCE,
    AttackerTrial,
    FaultKind,
    WatchedPlay,
    difference,
    difference_in_game,
)
from arena.players import Attacker
from arena.players.declared import flaw_of_declared
from arena.players.registry import name_of

ENOUGH_HITS = 3
"""In so many games an attacker that submits none of its hits fails."""


def attacker_checks() -> tuple[Check[AttackerSubject], ...]:
    """What is asked of an attacker, in the order in which it is tried."""
    trial = AttackerSubject
    return (
        Check("parameters", "a frozen dataclass; parameters can be pickled and written as JSON", _parameters),
        Check("needs", "declares what it needs in words of the threat", _needs),
        Check("plays", "plays every norm, goal, objective and feedback that it declares", _plays),
        Check("form", "sends images [n,C,H,W] float32 and indices int64 of games it has", _form),
        Check("range", "sends finite images within [0,1]", _range),
        Check("closed", "asks no more for games that have closed, and ends when all have", _closed),
        Check("seat", "leaves the tensors of its seat as they are", _seat),
        Check("submit", 'under objective "submit", submits where it was answered a hit', _submit),
        Check("luck", "where a wrong answer may be luck, does not hand in the first", _luck),
        Check("reproducible", "plays the same again from the same seed", _reproducible),
        Check("stateless", "keeps nothing from one play to the next", _stateless),
        Check("generators", "neither depends on nor disturbs the global random generators", _generators),
        Check("batch", "plays a game alone as among others, in any order", _batch),
        Check("rows", "keeps to max_rows, however few", _survives(trial.few_rows)),
        Check("budget", "survives a budget of 1, and of 2", _survives(trial.small_budgets)),
        Check(
            "games", "survives a single game, and games all closed at the start", _survives(trial.few_games)
        ),
        Check("refused", "survives refusals, some or all", _survives(trial.refused)),
        Check("banned", "survives bans, of some accounts or of all", _survives(trial.banned)),
        Check("nan", "survives a classifier that returns NaN, and answers declined", _survives(trial.silent)),
        Check("constant", "survives a classifier that answers all images alike", _survives(trial.constant)),
        Check("saturated", "survives images whose every value is 0 or 1", _survives(trial.saturated)),
    )


def attacker_results(
    attacker: Attacker, *, device: str = "cpu", budget: int = BUDGET, patience: float = PATIENCE
) -> Iterator[CheckResult]:
    """Run all checks on `attacker`, each as it is asked for; arguments as for `AttackerSubject`."""
    return results_of(
        attacker_checks(), AttackerSubject(attacker, device=device, budget=budget, patience=patience)
    )


def check_attacker(
    attacker: Attacker | type[Attacker],
    *,
    device: str = "cpu",
    budget: int = BUDGET,
    patience: float = PATIENCE,
) -> None:
    """Run all checks on `attacker`, or on one of this class; other arguments as for `AttackerSubject`.

    Raises:
        ConformanceError: at the first check that fails.
    """
    own = cast(Attacker, example("attacker", attacker))
    raise_first(attacker_results(own, device=device, budget=budget, patience=patience), name_of(own))


def _parameters(subject: AttackerSubject) -> None:
    check_parameters(subject.attacker)


def _needs(subject: AttackerSubject) -> None:
    if (flaw := flaw_of_declared(subject.attacker)) is not None:
        raise ConformanceError(flaw)


# Faults seen in ordinary plays


def _plays(subject: AttackerSubject) -> None:
    _report(subject.plays, "crash", "hang", "stalled")


def _form(subject: AttackerSubject) -> None:
    _report(subject.plays, "form")


def _range(subject: AttackerSubject) -> None:
    _report(subject.plays, "range")


def _closed(subject: AttackerSubject) -> None:
    _report(subject.plays, "closed")
    subject.require_sound()
    _report((subject.watch(trial) for trial in subject.few_games()), "closed")


def _seat(subject: AttackerSubject) -> None:
    _report(subject.plays, "seat")


def _submit(subject: AttackerSubject) -> str | None:
    if "submit" not in subject.needs.objectives:
        return 'it does not declare objective "submit"'
    subject.require_sound()
    plays = [play for play in subject.plays if play.trial.threat.objective == "submit"]
    if any("submitted" in play.reasons for play in plays):
        return None
    if (hits := sum(sum(play.hits) for play in plays)) < ENOUGH_HITS:
        # One probe may fall into the ball although the attack's own point never comes there.
        return f"it was answered a hit in {hits} games, too few to judge this by"
    raise ConformanceError(
        f'it declares objective "submit" and was answered a hit in {hits} games, but submitted in none'
    )


def _luck(subject: AttackerSubject) -> str | None:
    if "submit" not in subject.needs.objectives:
        return 'it does not declare objective "submit"'
    subject.require_sound()
    plays = [subject.watch(trial) for trial in subject.by_luck()]
    votes = [
        v for play in plays for v, why in zip(play.vote, play.reasons, strict=True) if why == "submitted"
    ]
    lost = sum(vote <= 0.5 for vote in votes)
    if 2 * lost <= len(votes):
        return None
    return (
        f"against random answers, {lost} of the {len(votes)} images that it submitted lost their vote: where "
        f"games.answers_are_facts is False, a wrong answer may be luck; repeat it before you submit"
    )


def _report(plays: Iterable[WatchedPlay], *kinds: FaultKind) -> None:
    for play in plays:
        if (fault := play.fault(*kinds)) is not None:
            raise ConformanceError(f"it {fault.said} [{play.trial.where}]")


# The same again


def _reproducible(subject: AttackerSubject) -> str | None:
    for one, other in subject.again:
        if (said := difference(one, other)) is not None:
            raise ConformanceError(f"it plays otherwise from the same seed: {said} [{one.trial.where}]")
    if all(difference(one, subject.watch(one.trial, seed=1)) is None for one, _ in subject.again):
        return "another seed made no difference"
    return None


def _stateless(subject: AttackerSubject) -> None:
    by = subject.fresh()
    for one in _settled(subject):
        subject.watch(replace(one.trial, games=(7,), clean=()), seed=5, by=by)
        if (said := difference(one, subject.watch(one.trial, by=by))) is not None:
            raise ConformanceError(f"it plays otherwise after another play: {said} [{one.trial.where}]")


def _generators(subject: AttackerSubject) -> None:
    for (one, other), (_, again) in zip(subject.otherwise, subject.again, strict=True):
        if difference(one, again) is not None:
            continue  # which the check "reproducible" reports
        if (said := difference(one, other)) is not None:
            raise ConformanceError(
                f"it depends on a global random generator instead of games.uniform, games.normal and "
                f"games.integers: {said} [{one.trial.where}]"
            )
        if one.used:
            raise ConformanceError(f"it disturbs the global random generator of {one.used[0]}")


def _batch(subject: AttackerSubject) -> str | None:
    if subject.across_games:
        return "not asked of an attacker that declares to learn across games"
    for one in _settled(subject):
        for places, company in (((2,), "alone"), ((4, 0, 3), "in other company and order")):
            apart = subject.watch(replace(one.trial, games=places, clean=()))
            if apart.fault(*FATAL):
                continue  # which the check "games" reports
            for place, game in enumerate(places):
                if (said := difference_in_game(one, game, apart, place)) is not None:
                    raise ConformanceError(f"it plays a game otherwise {company}: {said} [{one.trial.where}]")
    return None


def _settled(subject: AttackerSubject) -> list[WatchedPlay]:
    """A play of each variant that comes out the same again; what does not is reported elsewhere."""
    return [one for one, other in subject.again if difference(one, other) is None]


# Trouble


def _survives(
    trials: Callable[[AttackerSubject], Iterable[AttackerTrial]],
) -> Callable[[AttackerSubject], None]:
    def run(subject: AttackerSubject) -> None:
        subject.require_sound()
        _report((subject.watch(trial) for trial in trials(subject)), *FATAL)

    return run
