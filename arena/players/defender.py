"""What a defender is: the rows it gets, what it answers, and the methods in which it may act."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeAlias

import torch
from torch import Tensor

from arena import draws
from arena.players.card import Card
from arena.players.response import Response
from arena.rules.outcome import labels_of

if TYPE_CHECKING:
    from arena.classifiers import Classifier
    from arena.datasets import Split


@dataclass(frozen=True, eq=False)
class Rows:
    """The senders of a batch: one entry [n] for each row, and the draws keyed to it (docs/design.md, D4).

    Attributes:
        game: [n] int64, the game's index in the shard, by which memory is kept.
        key: [n] int64, the game's number, to which draws are keyed.
        turn: [n] int64, the query's number within its game, from 1.
        account: [n] int64.
        place: [n] int64, the row's place in the batch that the Referee sent.
        seed: the seed of this defender.
        draw: which of the repeats of this row it is; 0 unless a defender repeats rows.
        memory: this defender's memory as `start` made it, None for a defender without memory.
    """

    game: Tensor
    key: Tensor
    turn: Tensor
    account: Tensor
    place: Tensor
    seed: int = 0
    draw: Tensor | int = 0
    memory: Any = None

    def __len__(self) -> int:
        return len(self.key)

    def __getitem__(self, rows: Tensor | slice) -> Rows:
        """The rows selected by an index, a mask or a slice."""
        draw = self.draw[rows] if isinstance(self.draw, Tensor) else self.draw
        return replace(
            self,
            game=self.game[rows],
            key=self.key[rows],
            turn=self.turn[rows],
            account=self.account[rows],
            place=self.place[rows],
            draw=draw,
        )

    def repeat(self, times: int) -> Rows:
        """Each row `times` times, the repeats of a row next to each other, each with its own draws."""
        n = len(self)
        index = torch.arange(n, device=self.game.device).repeat_interleave(times)
        count = torch.arange(times, device=self.game.device).repeat(n)
        rows = self[index]
        return replace(rows, draw=rows.draw * times + count)

    def uniform(self, shape: Sequence[int], stream: int = 0) -> Tensor:
        """Uniform on [0,1), [n,*shape]; another `stream` (0 to 15) gives other draws for the same row."""
        return draws.uniform(self.seed, self.key, self.turn, shape, stream=self._stream(stream))

    def normal(self, shape: Sequence[int], stream: int = 0) -> Tensor:
        """Standard normal, [n,*shape]."""
        return draws.normal(self.seed, self.key, self.turn, shape, stream=self._stream(stream))

    def integers(self, high: int, shape: Sequence[int], stream: int = 0) -> Tensor:
        """Uniform on {0, ..., high - 1}, int64 [n,*shape]."""
        return draws.integers(high, self.seed, self.key, self.turn, shape, stream=self._stream(stream))

    def _stream(self, stream: int) -> Tensor | int:
        if not 0 <= stream < 16:
            raise ValueError(f"stream must be from 0 to 15; found {stream}")
        return self.draw * 16 + stream


Memory: TypeAlias = Literal["none", "game", "account", "service"]
Inner: TypeAlias = Callable[[Tensor, Rows], Response]


class Splits(Protocol):
    """Splits on which a defender may prepare itself; disjoint from the games and from the attackers'
    images."""

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

    control: ClassVar[bool] = False
    """Whether it defends nothing and is there to be beaten: an attack that fails against it is weak."""
    asks: ClassVar[int] = 1
    """How many answers of the classifier one answer takes at most, where nothing else is in the stack: what
    is announced to a user whose classifier is a service."""
    secrets: ClassVar[tuple[str, ...]] = ("seed",)
    """Parameters hidden from every attacker, whatever it may know about the defense: keys, salts and seeds
    (docs/design.md, D5)."""
    card: ClassVar[Card | None] = None
    """What the catalogue says of it; None: nothing."""

    @property
    def random(self) -> bool:
        """Whether another draw may give another answer to the same row; a class that always does, or never,
        says so in its place: `random: ClassVar[bool] = True`."""
        return False

    @property
    def memory(self) -> Memory:
        """Which earlier rows may influence an answer: those of its game, of its account, or all (`service`);
        said as `random` is."""
        return "none"

    @property
    def answers_are_facts(self) -> bool:
        """Whether this defender always answers the same image alike: it is neither random nor remembers."""
        return not self.random and self.memory == "none"

    def unsuited(self, shape: tuple[int, ...]) -> str | None:
        """One sentence on why it cannot defend images of `shape` [C,H,W], said before it prepares itself;
        None: it can."""
        return None

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        """Another classifier in place of `classifier`."""
        return classifier

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender prepared for the (hardened) `classifier`: tuned, trained."""
        return self

    def preparing(self, splits: Splits) -> int | None:
        """About how many images `harden` and `fit` ask the classifier; None: it cannot say.

        It is announced before anything is prepared.
        """
        own = type(self)
        return 0 if (own.harden, own.fit) == (Defender.harden, Defender.fit) else None

    def files(self) -> tuple[Path, ...]:
        """The files besides the data set that `harden` and `fit` read: another content is another defender.

        Raises:
            FileNotFoundError: if one is not there.
        """
        return ()

    @property
    def acts(self) -> bool:
        """Whether it may answer otherwise than the rest of the stack does, or asks that otherwise."""
        places = ("respond", "transform", "rewrite", "watch")
        return any(getattr(type(self), name) is not getattr(Defender, name) for name in places)

    def facts(self) -> dict[str, Any]:
        """What `fit` found, for the log; JSON values."""
        return {}

    def state(self) -> dict[str, Any]:
        """What `fit` found, tensors and JSON values by name, from which `restore` rebuilds this defender.

        Raises:
            NotImplementedError: if this defender overrides `fit`, but not this method.
        """
        if type(self).fit is not Defender.fit:
            raise NotImplementedError(
                f"{type(self).__name__} overrides fit, so it must override state() and "
                f"restore(state, classifier) too: what fit found is written and read back"
            )
        return {}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        """This defender as `fit` left it, for the (hardened) `classifier` that it was fitted for.

        Args:
            state: what `state` gave, tensors on the classifier's device.

        Raises:
            NotImplementedError: if there is a state, but this defender does not override this method.
        """
        if state:
            raise NotImplementedError(
                f"{type(self).__name__} has a state ({', '.join(sorted(state))}), so it must override "
                f"restore(state, classifier)"
            )
        return self

    def rebuild(self, classifier: Classifier, tensors: Mapping[str, Tensor]) -> Classifier:
        """The classifier that `harden` made of `classifier`, from the `tensors()` of that result.

        This default serves a `harden` that changes only parameters and buffers.

        Raises:
            NotImplementedError: if the hardened network has other tensors than the given one.
        """
        try:
            return classifier.with_tensors(tensors)
        except ValueError as error:
            raise NotImplementedError(
                f"{type(self).__name__} hardens into a network of another form, so it must override "
                f"rebuild(classifier, tensors): {error}"
            ) from error

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        """Answer images `x` [n,C,H,W]; `inner` is the rest of the stack, the classifier at its core."""
        response = inner(self.transform(x, rows), rows)
        if type(self).rewrite is not Defender.rewrite:
            finite = response.scores.isfinite().all(dim=1)
            sound = (finite & (labels_of(response.scores) >= 0)).unsqueeze(1)
            scores = torch.where(sound, self.rewrite(response.scores, rows), response.scores)
            response = replace(response, scores=scores)
        return self.watch(x, rows, response)

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        """The images to pass on in place of `x` [n,C,H,W]."""
        return x

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        """The logits to answer in place of `scores` [n,K]; rows that are not finite, or give no label, stay
        unchanged."""
        return scores

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        """`response` with rows refused, flagged or banned in view of `rows.memory`."""
        return response

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Any:
        """Fresh memory for a shard of games around images of `shape` [G,C,H,W], `accounts` accounts each."""
        return None

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        """Commit rows that the Referee kept to `rows.memory`, in place. `x` is as `respond` received it."""

    def forget(self, memory: Any, games: Tensor) -> None:
        """Reset `memory` of games `games` [m] to what `start` made, in place: new games begin there.

        Called for defenders with memory per game or account, in environments that play game after game. One
        that does not override this method has there a memory of its own for each game, which `start` makes
        anew, and answers games one by one (`arena.envs.apart.Apart`): right, but slower for many games.

        Raises:
            NotImplementedError: if this defender does not override this method.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to forget a game")

    def has_detector(self) -> bool:
        """Whether `detector` can be evaluated by an insider."""
        return type(self).detector is not Defender.detector

    def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
        """The detector's scores [n] of `x` for an insider, minus the threshold: from 0 on, `x` is flagged.

        Raises:
            NotImplementedError: if this defender has no detector.
        """
        raise NotImplementedError(f"{type(self).__name__} has no detector")
