"""What a user's function will be asked in a run, announced beforehand by cause (docs/design.md, D4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from arena.classifiers import Classifier
from arena.classifiers.from_numpy import FromNumpy
from arena.classifiers.served import CAUSES, Calls, Cause, capacity, served_in
from arena.datasets import draw
from arena.evaluation.benign.plan import Traffic
from arena.game.blame import DefenderError, blaming
from arena.game.preparing import OwnSplits, overrides
from arena.players.declared import MOST
from arena.players.defender import Defender
from arena.scenario.loaded_worlds import LoadedWorld
from arena.scenario.matches import Match

SERVED_UTILITY = 100
"""On how many clean images the stacks around a user's function are evaluated where the scenario does not say:
those drawn for the games come first, and are not asked again."""

Played = tuple[Match, LoadedWorld]


@dataclass(frozen=True)
class Planned:
    """What is announced for one cause.

    Attributes:
        images: so many; None: nobody can say. calls: at most so many.
        kind: of `images`: "exact", where nothing of the run lies in the log yet; "at most"; "about".
    """

    images: int | None = 0
    calls: int | None = 0
    kind: str = "exact"

    def __add__(self, other: Planned) -> Planned:
        kind = next((k for k in ("about", "at most") if k in (self.kind, other.kind)), "exact")
        images = None if None in (self.images, other.images) else (self.images or 0) + (other.images or 0)
        calls = None if None in (self.calls, other.calls) else (self.calls or 0) + (other.calls or 0)
        return Planned(images, calls, kind)


@dataclass(frozen=True)
class CallPlan:
    """What one function will be asked, by cause; what it was asked already is in it."""

    name: str
    planned: Mapping[Cause, Planned]


def served(classifier: Classifier) -> str | None:
    """The name of the user's function that a scenario's classifier is; None: a network, whose calls are
    nobody's bill."""
    found = served_in(classifier.module)
    return found.name if isinstance(found, FromNumpy) else None


def utility_images(match: Match, world: LoadedWorld) -> int:
    """On how many images the match's defended classifier is evaluated: as many as there are, at most."""
    wanted = match.settings.utility
    if served(world.classifier) and "utility" not in match.settings.model_fields_set:
        wanted = SERVED_UTILITY
    return min(wanted, len(world.dataset.games))


def benign_traffic(match: Match, world: LoadedWorld) -> Traffic | None:
    """The benign traffic that is played against a match's defended classifier; None: none."""
    wanted = match.settings.benign
    return wanted.within(world.dataset.games) if wanted.sessions else None


def benign_images(match: Match, world: LoadedWorld) -> int:
    """How many queries that is of the match's defended classifier at most, those of histories included."""
    if (traffic := benign_traffic(match, world)) is None:
        return 0
    shared = any(d.memory == "service" for d in match.defenders)
    random = any(d.random for d in match.defenders)
    return traffic.images(shared=shared, draws=traffic.draws if random else 1)


def plan_calls(
    matches: Sequence[Match],
    worlds: Sequence[LoadedWorld],
    asked: Calls,
    is_prepared: Callable[[Match, LoadedWorld], bool],
    workers: int | None = 0,
) -> list[CallPlan]:
    """The plans of all functions that play in `matches`.

    Args:
        asked: what they were asked to load them and to draw the games.
        is_prepared: whether the match's defenders were prepared in an earlier run.
        workers: how many others play, who load the function again and remember no answers of each other's;
            None: nobody can say.
    """
    by_name: dict[str, list[Played]] = {}
    for match, world in zip(matches, worlds, strict=True):
        if (name := served(world.classifier)) is not None:
            by_name.setdefault(name, []).append((match, world))
    return [
        CallPlan(name, _plan(name, played, asked, is_prepared, workers)) for name, played in by_name.items()
    ]


def _plan(
    name: str,
    played: Sequence[Played],
    asked: Calls,
    is_prepared: Callable[[Match, LoadedWorld], bool],
    workers: int | None,
) -> dict[Cause, Planned]:
    before = {cause: Planned(images, calls) for cause, (calls, images) in asked.of(name).items()}
    plan = _by_cause(played, True)
    kept = [p for cause in ("openings", "resources", "utility", "verdicts") if (p := plan[cause]).images]
    drawn = before["openings"].images or 0
    if sum(p.images or 0 for p in kept) + drawn > capacity(played[0][1].classifier.classes):
        plan = _by_cause(played, False)  # more than are remembered: some images may be asked twice
    if workers != 0:
        plan = _by_cause(played, False)
        repeated = {**plan, "checks": before["checks"]}
        plan |= {cause: _by_each(repeated[cause], workers) for cause in ("checks", "resources", "utility")}
    plan["preparing"] = _preparing(played, is_prepared)
    return {cause: plan.get(cause, Planned()) + before[cause] for cause in CAUSES}


def _by_each(planned: Planned, workers: int | None) -> Planned:
    """What each of the workers may ask anew; one that dies makes place for another."""
    if planned == Planned():
        return planned
    images, calls = (
        None if n is None or workers is None else n * workers for n in (planned.images, planned.calls)
    )
    return Planned(images, calls, "about")


def _by_cause(played: Sequence[Played], remembers: bool) -> dict[Cause, Planned]:
    plan: dict[Cause, Planned] = {cause: Planned() for cause in CAUSES}
    for match, world in played:
        own = _Asked(match, world, remembers)
        plan["queries"] += own.queries
        plan["monitor"] += own.monitor
        plan["openings"] += own.openings
        plan["verdicts"] += own.verdicts
        if match.threat.knowledge in ("detector", "weights"):
            plan["insider"] += Planned(None, None, "at most")
    plan["resources"], plan["utility"] = _resources(played), _utility(played, remembers)
    return plan


class _Asked:
    """What a match asks its classifier."""

    def __init__(self, match: Match, world: LoadedWorld, remembers: bool) -> None:
        self.match, self.world, self.remembers = match, world, remembers
        self.bare = not any(d.acts for d in match.defenders) and not hardens(match.defenders)
        self.asks = asks(match.defenders)
        random = any(d.random for d in match.defenders)
        self.stateful = any(d.memory != "none" for d in match.defenders)
        self.fresh = ((match.settings.votes if random else 1) + self.stateful) * self.asks
        # Where nothing defends, the verdicts base and vote are of one answer.
        self.judging = 1 if self.bare and remembers else 1 + self.fresh

    @property
    def queries(self) -> Planned:
        s = self.match.settings
        rows = s.games * s.repeats * self.match.threat.budget * self.asks
        return Planned(rows, rows, "at most")

    @property
    def monitor(self) -> Planned:
        """One answer of the hardened classifier beside each query, where a defender stands before it."""
        s = self.match.settings
        if not s.margin_base or not any(d.acts or d.memory != "none" for d in self.match.defenders):
            return Planned()
        rows = s.games * s.repeats * self.match.threat.budget
        return Planned(rows, rows, "at most")

    @property
    def openings(self) -> Planned:
        """Whether the hardened classifier is right on the clean images, and the verdicts at the mark 0."""
        fresh = 0 if self.bare and self.remembers else self.fresh
        as_drawn = self.match.threat.quantisation == "none" and not hardens(self.match.defenders)
        plain = 0 if as_drawn and self.remembers else 1 if self.remembers else 2
        rows = len(self.world) * self.match.settings.repeats * (plain + fresh)
        return Planned(rows, rows, "at most") if rows else Planned()

    @property
    def verdicts(self) -> Planned:
        """At each mark, and at the end."""
        s = self.match.settings
        games = len(self.world) if self.stateful else s.games
        rows = games * s.repeats * (len(self.match.at) + 1) * self.judging
        return Planned(rows, rows, "at most")


def asks(defenders: Sequence[Defender]) -> int:
    """How many answers of the classifier an answer of a stack takes at most."""
    product = 1
    for defender in defenders:
        product *= defender.asks
    return product


def hardens(defenders: Sequence[Defender]) -> bool:
    """Whether the games are played with another classifier than the given one."""
    return any(overrides(defender, "harden") for defender in defenders)


def _resources(played: Sequence[Played]) -> Planned:
    total, known = Planned(), set[int]()
    for match, world in played:
        if match.threat.resources.starts and id(world.pool) not in known:
            known.add(id(world.pool))
            total += Planned(len(world.pool), -(-len(world.pool) // world.classifier.batch))
    return total


def _utility(played: Sequence[Played], remembers: bool) -> Planned:
    """Of the undefended classifier what was not drawn for the games; of each stack all images."""
    total, known = Planned(), set[tuple[object, ...]]()
    for match, world in played:
        images, seed = utility_images(match, world), match.settings.seed
        split, pieces = world.dataset.games, -(-images // world.classifier.batch)
        bare = not any(d.acts for d in match.defenders) and not hardens(match.defenders)
        if ("all", id(world.classifier), images, seed) not in known:
            known.add(("all", id(world.classifier), images, seed))
            places = set(draw(split, seed, images, lambda place: place >= 0).index.tolist())
            new = len(places - set(world.drawn.index.tolist())) if remembers else images
            total += Planned(new, min(new, pieces))
        stack = (id(world.classifier), images, seed, repr(match.defenders))
        if (not bare or not remembers) and stack not in known:
            known.add(stack)
            rows = images * asks(match.defenders)
            total += Planned(rows, min(rows, pieces * asks(match.defenders)), "at most")
        if (benign := ("benign", match.settings.benign, *stack)) not in known:
            known.add(benign)
            rows = benign_images(match, world) * (1 + asks(match.defenders))  # undefended, too
            total += Planned(rows, rows, "at most") if rows else Planned()
    return total


def _preparing(played: Sequence[Played], is_prepared: Callable[[Match, LoadedWorld], bool]) -> Planned:
    total, known = Planned(), set[tuple[int, str]]()
    for match, world in played:
        key = (id(world.classifier), repr(match.defenders))
        if key in known or is_prepared(match, world):
            continue
        known.add(key)
        for images in preparing(match, world):
            total += Planned(images, images, "about") if images != 0 else Planned()
    return total


def preparing(match: Match, world: LoadedWorld) -> list[int | None]:
    """About how many images each of a match's defenders asks the classifier as it is prepared."""
    return [_announced(d, world) for d in match.defenders]


def _announced(defender: Defender, world: LoadedWorld) -> int | None:
    """What a defender says of preparing itself; None where that is no number of images, or it fails."""
    try:
        with blaming(defender, "preparing"):
            # Only a method of its own could change what it is given, and copies of images take long.
            own = overrides(defender, "preparing")
            images = defender.preparing(OwnSplits.of(world.dataset) if own else world.dataset)
    except DefenderError:
        return None
    return images if type(images) is int and 0 <= images <= MOST else None
