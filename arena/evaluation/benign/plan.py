"""Which benign traffic is played against each defended classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from arena.datasets import Split
from arena.evaluation.benign.history import History
from arena.evaluation.benign.kinds import CLIENTS
from arena.game.stack import Stack
from arena.messages import fault, near

HISTORIES = ("empty", "benign-1000", "attacker-1000", "poison-1000")


class Traffic(BaseModel):
    """The benign traffic of a match's defended classifier.

    Attributes:
        sessions: of each kind of client; 0: none is played.
        clients: the kinds (`kinds.CLIENTS`).
        histories: what the service remembers when they come (`history.History`). Memory that does not outlast
            a game or an account, and none at all, meets an empty one alone: the others would change nothing.
        draws: how many fresh answers a random defender gives to each image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sessions: Annotated[int, Field(strict=True, ge=0, le=10_000)] = 0
    clients: Annotated[tuple[str, ...], Field(min_length=1)] = tuple(CLIENTS)
    histories: Annotated[tuple[str, ...], Field(min_length=1)] = HISTORIES
    draws: Annotated[int, Field(strict=True, ge=1, le=1000)] = 5

    @field_validator("clients")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in CLIENTS:
                raise ValueError(f'found "{name}"; there is no such client; {near(name, CLIENTS)}')
        return tuple(name for name in CLIENTS if name in value)

    @field_validator("histories")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(History.read(text)) for text in value))

    def within(self, split: Split) -> Traffic:
        """It with at most half as many sessions as the split has images: the others are others'."""
        return self.model_copy(update={"sessions": min(self.sessions, max(1, len(split) // 2))})

    def met_by(self, stack: Stack) -> tuple[str, ...]:
        """The histories that are played against a stack."""
        shared = any(d.memory == "service" for d in stack.defenders)
        return self.histories if shared else ("empty",)

    def answers(self, stack: Stack) -> int:
        """How many answers of a stack each image gets."""
        return self.draws if stack.random else 1

    def parts(self, stack: Stack) -> list[tuple[str, str]]:
        """What is played against a stack: (client, history), history by history."""
        return [(client, history) for history in self.met_by(stack) for client in self.clients]

    def images(self, *, shared: bool, draws: int = 1) -> int:
        """How many queries that is of a stack, histories included.

        Args:
            shared: whether it remembers for a whole service. draws: answers to each image of a client.
        """
        session = sum(CLIENTS[name].queries for name in self.clients)
        histories = self.histories if shared else ("empty",)
        filled = sum(History.read(text).queries for text in histories)
        return len(histories) * self.sessions * session * draws + filled * (self.sessions > 0)


def as_traffic(value: Any) -> Any:
    """A number of sessions, or a table."""
    if isinstance(value, Traffic | Mapping):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return {"sessions": value}
    raise ValueError(f"found {value!r}; it must be a whole number of sessions, or a table")


_READ: TypeAdapter[Traffic] = TypeAdapter(Annotated[Traffic, BeforeValidator(as_traffic)])


def read_traffic(value: Any) -> Traffic:
    """The traffic that a number of sessions or a table describes.

    Raises:
        ValueError: one sentence on what was wrong, and what is allowed.
    """
    try:
        return _READ.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, ("benign", *first["loc"])))
        raise ValueError(f"{key}: {fault(first, Traffic.model_fields)}") from error


NONE = Traffic()
