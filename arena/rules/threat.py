"""The rules of a game: what the attacker may change, ask, see and know, and what counts as a win."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
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


class GrantedResources(BaseModel):
    """What an attacker has besides the answers (docs/design.md, D5).

    Attributes:
        images: how many labelled images of the `resources` split it holds.
        starts: whether it holds, for each game, an image from which it may start: one that the
            classifier gives the target's label (targeted) or another label than y (untargeted).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(default=0, ge=0)
    starts: bool = False


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

    def with_budget(self, budget: int) -> Threat:
        return self.model_copy(update={"budget": budget})


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
