"""The rules of a game: what the attacker may change, ask, see and know, and what counts as a win."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from arena.messages import fault, quoted

Norm = Literal["l2", "linf"]
Goal = Literal["untargeted", "targeted"]
Targets = Literal["random", "next"]
Objective = Literal["first", "submit", "minimum"]
Quantisation = Literal["none", "round", "floor"]
Knowledge = Literal["none", "defense", "detector", "weights"]

MOST_QUERIES = 2**24
"""The largest budget of a game."""
MOST_SURROGATES = 64
"""The most reference networks of an attacker."""
TOLERANCE = 1e-6
"""Slack of the ball: a distance up to epsilon + TOLERANCE is inside (docs/design.md, D3)."""


def parse_epsilon(value: Any, name: str = "epsilon") -> float:
    """A radius from a number, a fraction such as "8/255", or "inf"; `name` is what errors call it.

    Raises:
        ValueError: if it is none of these, or not positive.
    """
    allowed = 'a positive number, a fraction such as "8/255", or "inf"'
    if isinstance(value, bool) or not isinstance(value, int | float | str | Fraction):
        raise ValueError(f"{name} must be {allowed}; found {quoted(value)}")
    try:
        radius = float(Fraction(value)) if isinstance(value, str) and "/" in value else float(value)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"{name} must be {allowed}; found {quoted(value)}") from None
    if not radius > 0:
        raise ValueError(f"{name} must be {allowed}; found {quoted(value)}")
    return radius


def parse_feedback(value: Any) -> str:
    """`logits`, `probabilities`, `topk:K` (K >= 1) or `label`."""
    if isinstance(value, str) and re.fullmatch(r"logits|probabilities|label|topk:[1-9]\d*", value):
        return value
    raise ValueError(
        f'feedback must be "logits", "probabilities", "topk:K" (K from 1) or "label"; found {quoted(value)}'
    )


Epsilon = Annotated[
    float,
    BeforeValidator(parse_epsilon),
    PlainSerializer(lambda e: e if math.isfinite(e) else "inf", when_used="json"),
]
Feedback = Annotated[str, BeforeValidator(parse_feedback)]


class NamedNetwork(BaseModel):
    """A reference network as a user names it, by the keys of a classifier.

    Whoever loads it reads them. The log's has no `weights` but the whole `sha` of what was granted.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)

    network: str

    @property
    def table(self) -> dict[str, Any]:
        """The keys that were given."""
        return self.model_dump(mode="json")

    @property
    def title(self) -> str:
        """Its name, with the beginning of its SHA where that is known."""
        sha = self.table.get("sha")
        return f"{self.network} ({sha[:12]})" if isinstance(sha, str) else self.network

    def __hash__(self) -> int:
        return hash(self.network)


def _named(value: Any) -> Any:
    """A network by its name alone, or by a table of a classifier's keys."""
    if not isinstance(value, str | Mapping | NamedNetwork):
        raise ValueError(f"a network's name, or a table of a classifier's keys; found {quoted(value)}")
    return {"network": value} if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError(f"a list of networks; found {quoted(value)}")
    return tuple(value)


class GrantedResources(BaseModel):
    """What an attacker has besides the answers (docs/design.md, D5).

    Attributes:
        images: how many labelled images of the `resources` split it holds.
        starts: whether it holds, for each game, an image from which it may start: one that the
            classifier gives the target's label (targeted) or another label than y (untargeted).
        surrogates: the reference networks that it holds, and may differentiate through.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(default=0, ge=0)
    starts: bool = False
    surrogates: Annotated[
        tuple[Annotated[NamedNetwork, BeforeValidator(_named)], ...],
        BeforeValidator(_listed),
        Field(max_length=MOST_SURROGATES),
    ] = ()

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Reference networks are told of where there are some: logs from before they could be granted hold
        the same threats."""
        told: dict[str, Any] = handler(self)
        return told if self.surrogates else {key: told[key] for key in told if key != "surrogates"}


class Threat(BaseModel):
    """The rules of a game.

    Attributes:
        norm: of the perturbation x - x0, over pixels in [0,1].
        epsilon: radius of the ball in that norm; may be infinite.
        budget: queries per game.
        feedback: what the attacker sees of an answer: `logits`, `probabilities`, `topk:K` or `label`.
        goal: any wrong label, or the target's.
        targets: how targets are drawn: uniformly among the other classes, or (y + 1) mod K.
        objective: `first`: the first hit ends the game; `submit`: the submitted image is judged, else the
            best image seen; `minimum`: the nearest hit by the end of the budget.
        trust_answers: attackers take every answer for a fact, as those of most papers do: they do not repeat
            what they stand by, even where the same image may get another answer (docs/design.md, D3).
        quantisation: of all images sent to 8 bits: `none`, `round`, or `floor` (AAA's).
        accounts: how many accounts an attacker may spread a game's queries over.
        knowledge: of the defended model, beyond its answers.
        resources: what the attacker has of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    norm: Norm = "linf"
    epsilon: Epsilon
    budget: int = Field(ge=1, le=MOST_QUERIES)
    feedback: Feedback = "logits"
    goal: Goal = "untargeted"
    targets: Targets = "random"
    objective: Objective = "first"
    trust_answers: bool = False
    quantisation: Quantisation = "none"
    accounts: int = Field(default=1, ge=1, le=2**16)
    knowledge: Knowledge = "none"
    resources: GrantedResources = GrantedResources()

    @model_validator(mode="after")
    def _ball_is_finite_where_needed(self) -> Threat:
        if self.objective != "minimum" and math.isinf(self.epsilon):
            raise ValueError(f'epsilon "inf" needs objective "minimum"; found objective "{self.objective}"')
        return self

    @property
    def top_k(self) -> int | None:
        """K of `topk:K`, else None."""
        kind, _, k = self.feedback.partition(":")
        return int(k) if kind == "topk" else None

    @property
    def targeted(self) -> bool:
        return self.goal == "targeted"

    @property
    def known(self) -> str:
        """What an attacker knows beyond the answers, in a word: `knowledge`, and `surrogates` beside it or in
        place of `none` where reference networks are granted. They are a knowledge of their own: whoever has
        them stands in no table with those who have none."""
        if not self.resources.surrogates:
            return self.knowledge
        return "surrogates" if self.knowledge == "none" else f"{self.knowledge}+surrogates"

    def with_budget(self, budget: int) -> Threat:
        return self.model_copy(update={"budget": budget})

    def with_surrogates(self, surrogates: Iterable[NamedNetwork]) -> Threat:
        """This threat, granting these reference networks."""
        given = self.resources.model_copy(update={"surrogates": tuple(surrogates)})
        return self.model_copy(update={"resources": given})


def parse_threat(given: Threat | Mapping[str, Any]) -> Threat:
    """A threat as it is, or from its table, read as strictly as in a scenario: a text such as "100" is no
    number.

    Raises:
        ValueError: one sentence for each fault, with its key, what was found and what is allowed.
    """
    if isinstance(given, Threat):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(f"threat must be a Threat or a table of its keys; found {quoted(given)}")
    try:
        return Threat.model_validate(dict(given), strict=True)
    except ValidationError as error:
        raise ValueError("\n".join(_sentence(e) for e in error.errors())) from None


def _sentence(error: Mapping[str, Any]) -> str:
    place = [str(part) for part in error["loc"]]
    where = "threat: " + "".join(f"{part}: " for part in [".".join(place)] if part)
    return where + fault(error, Threat.model_fields if len(place) == 1 else GrantedResources.model_fields)
