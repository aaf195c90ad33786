"""What an attacker is: what it needs, and how it plays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from arena.players.seat import Games
from arena.rules.moves import Asking, Move, Play, VolleyError
from arena.rules.threat import MOST_QUERIES, Goal, Knowledge, Norm, Objective, Threat

if TYPE_CHECKING:
    from arena.players.defender import Defender

_KNOWLEDGE: tuple[Knowledge, ...] = ("none", "defense", "detector", "weights")


@dataclass(frozen=True)
class Needs:
    """What an attacker must be granted by a threat (docs/design.md, D6).

    Attributes:
        feedback: `label` works with any feedback, `scores` needs scores, `logits` needs logits.
        norms, goals, objectives: those it can play.
        knowledge: the least knowledge it needs.
        images: how many images of its own it needs.
        starts: when it needs a starting image for each game.
        surrogates: how many reference networks it needs; it is given all that a threat grants. One that needs
            none is given none, and plays as if the threat granted none.
        prefix: whether the first q queries of its run are as good as a whole run with budget q.
    """

    feedback: Literal["label", "scores", "logits"] = "label"
    norms: tuple[Norm, ...] = ("l2", "linf")
    goals: tuple[Goal, ...] = ("untargeted", "targeted")
    objectives: tuple[Objective, ...] = ("first", "submit", "minimum")
    knowledge: Knowledge = "none"
    images: int = 0
    starts: Literal["never", "targeted", "always"] = "never"
    surrogates: int = 0
    prefix: bool = True

    def needs_starts(self, targeted: bool) -> bool:
        """Whether it needs a starting image for each game, targeted or not."""
        return self.starts == "always" or (self.starts == "targeted" and targeted)

    def unmet(self, threat: Threat) -> str | None:
        """One sentence on what `threat` lacks for this attacker, or None if it lacks nothing."""
        if self.feedback != "label" and threat.feedback == "label":
            return f'it needs scores; the threat\'s feedback is "{threat.feedback}"'
        if self.feedback == "logits" and threat.feedback != "logits":
            return f'it needs logits; the threat\'s feedback is "{threat.feedback}"'
        for name, allowed in (("norm", self.norms), ("goal", self.goals), ("objective", self.objectives)):
            if (found := getattr(threat, name)) not in allowed:
                options = ", ".join(f'"{a}"' for a in allowed)
                return f'it plays {name} {options}; the threat\'s {name} is "{found}"'
        if _KNOWLEDGE.index(threat.knowledge) < _KNOWLEDGE.index(self.knowledge):
            return f'it needs knowledge "{self.knowledge}"; the threat grants "{threat.knowledge}"'
        if threat.resources.images < self.images:
            return f"it needs {self.images} images of its own; the threat grants {threat.resources.images}"
        if self.needs_starts(threat.targeted) and not threat.resources.starts:
            return "it needs starting images; the threat grants none (resources.starts)"
        if (found := len(threat.resources.surrogates)) < self.surrogates:
            few = "a reference network" if self.surrogates == 1 else f"{self.surrogates} reference networks"
            return f"it needs {few}; the threat grants {found or 'none'} (resources.surrogates)"
        return None

    def unmet_by(self, defenders: Sequence[Defender]) -> str | None:
        """One sentence on what a stack of `defenders` lacks for this attacker (a detector), or None."""
        if self.knowledge != "detector" or any(d.has_detector() for d in defenders):
            return None
        return 'it needs knowledge "detector"; no defender of this stack has a detector'


class Attacker(ABC):
    """A strategy. Its parameters are the fields of a frozen dataclass; it keeps no state between plays."""

    across_games: ClassVar[bool] = False
    """Whether knowledge gained in one game of a shard may change how it plays another."""
    control: ClassVar[bool] = False
    """Whether it searches nothing and is there to be beaten: an attack that does no better is none."""

    @property
    def needs(self) -> Needs:
        """What a threat must grant; most attackers override this with a plain class attribute."""
        return Needs()

    @property
    def twin(self) -> Attacker | None:
        """The plain attacker that this one adapts to a defense, with its parameters; None if it adapts none.

        Where the adaptive one is the worse of the two, the adaptation is at fault; it is no sign of a good
        defense (docs/design.md, D14).
        """
        return None

    @property
    def budget_factor(self) -> int:
        """The factor by which this attacker's convention multiplies the threat's budget."""
        return 1

    @abstractmethod
    def play(self, games: Games) -> Play:
        """Play all `games` at once: yield moves, receive answers, return when nothing is left to do."""


def runs_of(attacker: Attacker, threat: Threat, at: Sequence[int]) -> list[tuple[Threat, tuple[int, ...]]]:
    """The runs that report an attacker's results at the counts `at` and at the threat's budget.

    Each is a threat and the counts reported in it, ascending, all of them multiplied by the attacker's
    `budget_factor`. It grants reference networks to those alone that need some. There is one run, unless the
    first queries of a run are not as good as a run with a smaller budget (`Needs.prefix`): such an attacker
    plays once for each count.

    Raises:
        ValueError: if no threat may have so large a budget.
    """
    factor = attacker.budget_factor
    if threat.resources.surrogates and not attacker.needs.surrogates:
        threat = threat.with_surrogates(())
    if threat.budget * factor > MOST_QUERIES:
        raise ValueError(
            f"its budget_factor {factor} makes {threat.budget * factor:,} queries of the budget "
            f"{threat.budget:,}; {MOST_QUERIES:,} are the most"
        )
    counts = [count * factor for count in sorted({*at, threat.budget})]
    if attacker.needs.prefix:
        return [(threat.with_budget(counts[-1]), tuple(counts))]
    return [(threat.with_budget(count), (count,)) for count in counts]


def relay(play: Play, answer: Callable[[Move], Asking]) -> Play:
    """Let an inner attacker play behind a wrapper.

    Every move of `play` is answered by the generator function `answer`. It makes moves of its own, or passes
    the move on (`yield move`), and returns the answer that the inner attacker receives.
    """
    try:
        move = next(play)
        while True:
            try:
                reply = yield from answer(move)
            except VolleyError as error:
                move = play.throw(error)
            else:
                move = play.send(reply)
    except StopIteration:
        return


def generator_only(play: object) -> Play:
    """`play` if it is a generator.

    Raises:
        TypeError: if `play` of an attacker returned something else.
    """
    if not isinstance(play, Generator):
        raise TypeError(f"play() must be a generator that yields moves; it returned {type(play).__name__}")
    return play
