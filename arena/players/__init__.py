"""The two interfaces that agents implement: Attacker and Defender."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeAlias

import torch
from torch import Tensor

from arena import draws
from arena.players.seat import Games, Holdings
from arena.rules.losses import Loss, margin
from arena.rules.moves import (
    Answers,
    Asking,
    Claim,
    Consult,
    Move,
    Note,
    Play,
    Resign,
    Submit,
    Volley,
    VolleyError,
)
from arena.rules.threat import Goal, Knowledge, Norm, Objective, Threat

if TYPE_CHECKING:
    from arena.classifiers import Classifier
    from arena.datasets import Split

__all__ = [
    "Answers",
    "Asking",
    "Attacker",
    "Claim",
    "Consult",
    "Defender",
    "Games",
    "Holdings",
    "Inner",
    "Loss",
    "Move",
    "Needs",
    "Note",
    "Play",
    "Resign",
    "Response",
    "Rows",
    "Splits",
    "Submit",
    "Threat",
    "Volley",
    "VolleyError",
    "margin",
    "relay",
]

_KNOWLEDGE: tuple[Knowledge, ...] = ("none", "defense", "detector", "weights")


@dataclass(frozen=True)
class Needs:
    """What an attacker must be granted by a threat (D6).

    Attributes:
        feedback: `label` is content with any feedback, `scores` needs scores, `logits` needs logits.
        norms, goals, objectives: those it can play.
        knowledge: the least knowledge it needs.
        images: how many images of its own it needs.
        starts: when it needs a starting image for each game.
        prefix: whether the first q queries of its run are as good as a run with budget q.
    """

    feedback: Literal["label", "scores", "logits"] = "label"
    norms: tuple[Norm, ...] = ("l2", "linf")
    goals: tuple[Goal, ...] = ("untargeted", "targeted")
    objectives: tuple[Objective, ...] = ("first", "submit", "minimum")
    knowledge: Knowledge = "none"
    images: int = 0
    starts: Literal["never", "targeted", "always"] = "never"
    prefix: bool = True

    def needs_starts(self, targeted: bool) -> bool:
        """Whether it needs a starting image for each game, targeted or not."""
        return self.starts == "always" or (self.starts == "targeted" and targeted)

    def unmet(self, threat: Threat) -> str | None:
        """One sentence on what `threat` does not grant, or None where it grants all."""
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
        return None

    def unmet_by(self, defenders: Sequence[Defender]) -> str | None:
        """One sentence on what a stack of `defenders` does not have, or None where it has all: a detector."""
        if self.knowledge != "detector" or any(d.has_detector() for d in defenders):
            return None
        return 'it needs knowledge "detector"; no defender of this stack has a detector'


class Attacker(ABC):
    """A strategy. Its parameters are the fields of a frozen dataclass; it keeps no state between plays."""

    across_games: ClassVar[bool] = False
    """Whether what it learns in one game of a shard may change how it plays another."""

    @property
    def needs(self) -> Needs:
        """What a threat must grant; most attackers override this with a plain class attribute."""
        return Needs()

    @property
    def budget_factor(self) -> int:
        """By how much this attacker's convention multiplies the threat's budget."""
        return 1

    @abstractmethod
    def play(self, games: Games) -> Play:
        """Play all `games` at once: yield moves, receive answers, return when nothing is left to do."""


def relay(play: Play, answer: Callable[[Move], Asking]) -> Play:
    """Let an inner attacker play behind a wrapper.

    Every move of `play` is answered by the generator function `answer`, which makes moves of its own, or
    passes the move on (`yield move`), and returns what the inner attacker is to hear at its own seat.
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


@dataclass(frozen=True, eq=False)
class Rows:
    """Who asks: one entry [n] for each row of a batch, and the draws keyed to it (D4).

    Attributes:
        slot: [n] int64, the game's place in the shard, by which memory is kept.
        game: [n] int64, the game's number, to which draws are keyed.
        turn: [n] int64, the query's number within its game, from 1.
        account: [n] int64.
        place: [n] int64, the row's place in the batch that the Referee sent.
        seed: this defender's.
        draw: which of the repeats of this row it is; 0 unless a defender asks several times.
        memory: this defender's memory as `start` made it, None for one without.
    """

    slot: Tensor
    game: Tensor
    turn: Tensor
    account: Tensor
    place: Tensor
    seed: int = 0
    draw: Tensor | int = 0
    memory: Any = None

    def __len__(self) -> int:
        return len(self.game)

    def __getitem__(self, rows: Tensor | slice) -> Rows:
        """The rows selected by an index, a mask or a slice."""
        draw = self.draw[rows] if isinstance(self.draw, Tensor) else self.draw
        return replace(
            self,
            slot=self.slot[rows],
            game=self.game[rows],
            turn=self.turn[rows],
            account=self.account[rows],
            place=self.place[rows],
            draw=draw,
        )

    def repeat(self, times: int) -> Rows:
        """Each row `times` times, repeats of a row side by side, with draws of their own."""
        n = len(self)
        index = torch.arange(n, device=self.game.device).repeat_interleave(times)
        count = torch.arange(times, device=self.game.device).repeat(n)
        rows = self[index]
        return replace(rows, draw=rows.draw * times + count)

    def uniform(self, shape: Sequence[int], stream: int = 0) -> Tensor:
        """Uniform on [0,1), [n,*shape]; another `stream` (0 to 15) gives other draws for the same row."""
        return draws.uniform(self.seed, self.game, self.turn, shape, stream=self._stream(stream))

    def normal(self, shape: Sequence[int], stream: int = 0) -> Tensor:
        """Standard normal, [n,*shape]."""
        return draws.normal(self.seed, self.game, self.turn, shape, stream=self._stream(stream))

    def integers(self, high: int, shape: Sequence[int], stream: int = 0) -> Tensor:
        """Uniform on {0, ..., high - 1}, int64 [n,*shape]."""
        return draws.integers(high, self.seed, self.game, self.turn, shape, stream=self._stream(stream))

    def _stream(self, stream: int) -> Tensor | int:
        if not 0 <= stream < 16:
            raise ValueError(f"stream must be from 0 to 15; found {stream}")
        return self.draw * 16 + stream


@dataclass(frozen=True, eq=False)
class Response:
    """A defended answer, [n] rows; None stands for False everywhere.

    Attributes:
        scores: [n,K] logits. The label answered is their argmax, ties to the lowest index.
        declined: [n] bool: no label is given (-1), which is never a hit.
        refused: [n] bool: nothing is answered, and the attacker is told so; charged.
        flagged: [n] bool: marked by the defender, for the log; the attacker is not told.
        banned: [n] bool: refused, and the account is closed.
    """

    scores: Tensor
    declined: Tensor | None = None
    refused: Tensor | None = None
    flagged: Tensor | None = None
    banned: Tensor | None = None


Inner: TypeAlias = Callable[[Tensor, Rows], Response]


class Splits(Protocol):
    """What a defender may prepare itself on; disjoint from the games and from the attackers' images."""

    @property
    def train(self) -> Split: ...

    @property
    def calibration(self) -> Split: ...


class Defender:
    """A policy around a classifier. Its parameters are the fields of a frozen dataclass.

    Simple defenders override `transform` (input only), `rewrite` (scores only) or `watch` (history only);
    others override `respond`. An answer to a row depends on the row, the memory and the keyed draws of
    `rows` alone, never on the other rows of the batch.
    """

    random: ClassVar[bool] = False
    """Whether the same row may be answered differently by another draw."""
    memory: ClassVar[Literal["none", "game", "account", "service"]] = "none"
    """By what earlier rows an answer may be influenced: those of its game, its account, or all."""
    secrets: ClassVar[tuple[str, ...]] = ("seed",)
    """Parameters shown to no attacker, whatever it may know of the defense: keys, salts and seeds (D5)."""

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        """Another classifier in place of `classifier`."""
        return classifier

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender prepared for the (hardened) `classifier`: tuned, trained."""
        return self

    def facts(self) -> dict[str, Any]:
        """What `fit` found, for the log; JSON values."""
        return {}

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        """Answer images `x` [n,C,H,W]; `inner` is the rest of the stack, the classifier at its core."""
        response = inner(self.transform(x, rows), rows)
        if type(self).rewrite is not Defender.rewrite:
            finite = response.scores.isfinite().all(dim=1, keepdim=True)
            scores = torch.where(finite, self.rewrite(response.scores, rows), response.scores)
            response = replace(response, scores=scores)
        return self.watch(x, rows, response)

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        """The images to pass on in place of `x` [n,C,H,W]."""
        return x

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        """The logits to answer in place of `scores` [n,K]; rows that are not finite pass by unchanged."""
        return scores

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        """`response` with rows refused, flagged or banned in view of `rows.memory`."""
        return response

    def start(self, games: int, accounts: int, device: torch.device) -> Any:
        """Fresh memory for a shard of `games` games with `accounts` accounts each."""
        return None

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        """Commit rows that the Referee kept to `rows.memory`, in place. `x` is as `respond` received it."""

    def forget(self, memory: Any, slots: Tensor) -> None:
        """Make `memory` of the games at `slots` [m] as `start` made it, in place: new games are dealt there.

        Asked of defenders with memory per game or account, where an environment deals game after game.

        Raises:
            NotImplementedError: if this defender does not say how.
        """
        raise NotImplementedError(
            f"{type(self).__name__} keeps memory per {self.memory}: in an environment, where new games "
            f"take the places of ended ones, it must override forget(memory, slots)"
        )

    def has_detector(self) -> bool:
        """Whether `detector` is one that an insider may evaluate."""
        return type(self).detector is not Defender.detector

    def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
        """The detector's scores [n] of `x` for an insider, less its threshold: from 0 on `x` is flagged.

        Raises:
            NotImplementedError: if this defender has no detector.
        """
        raise NotImplementedError(f"{type(self).__name__} has no detector")


def parameters(agent: Attacker | Defender) -> dict[str, Any]:
    """An agent's parameters by name, agents inside as their names and parameters, for the log."""

    def plain(value: Any) -> Any:
        if isinstance(value, Attacker | Defender):
            return {"agent": type(value).__name__, **parameters(value)}
        if isinstance(value, tuple | list):
            return [plain(v) for v in value]
        return value

    return {f.name: plain(getattr(agent, f.name)) for f in fields(agent) if f.init}  # type: ignore[arg-type]


def generator_only(play: object) -> Play:
    """`play` if it is a generator.

    Raises:
        TypeError: if `play` of an attacker returned something else.
    """
    if not isinstance(play, Generator):
        raise TypeError(f"play() must be a generator that yields moves; it returned {type(play).__name__}")
    return play
