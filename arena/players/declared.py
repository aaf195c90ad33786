"""What agents say of themselves before anything is played, and whether it is what it must be: a property that
fails, or gives something else, would fail wherever it is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, get_args

from arena.interruptions import is_the_users
from arena.messages import in_short, one_line, quoted
from arena.players.attacker import Attacker, Needs
from arena.players.defender import Defender
from arena.rules.threat import Goal, Knowledge, Norm, Objective

MOST = 2**24
"""The largest factor of a budget, and the most answers of the classifier behind one answer."""
_WORDS: dict[str, tuple[str, ...]] = {
    "feedback": ("label", "scores", "logits"),
    "knowledge": get_args(Knowledge),
    "starts": ("never", "targeted", "always"),
}
_TUPLES: dict[str, tuple[str, ...]] = {
    "norms": get_args(Norm),
    "goals": get_args(Goal),
    "objectives": get_args(Objective),
}
_MEMORIES = ("none", "game", "account", "service")

_Flaw: TypeAlias = Callable[[str, Any], str | None]
"""Gives one sentence on what is wrong with a value of this name, or None."""


def flaw_of_declared(agent: Attacker | Defender) -> str | None:
    """One sentence on the first thing that an agent says of itself and that it must not; None if there is
    none."""
    told: dict[str, _Flaw]
    if isinstance(agent, Attacker):
        told = {
            "needs": _needs,
            "budget_factor": _count,
            "across_games": _bool,
            "control": _bool,
            "twin": _twin,
        }
    else:
        told = {
            "random": _bool,
            "memory": lambda name, found: _one_of(name, found, _MEMORIES),
            "answers_are_facts": _bool,
            "acts": _bool,
            "control": _bool,
            "asks": _count,
            "secrets": _names,
            "has_detector": lambda name, method: _bool(f"{name}()", method()),
        }
    for name, flaw in told.items():
        try:
            sentence = flaw(name, getattr(agent, name))
        except BaseException as error:  # an agent's own code, which may raise anything
            if is_the_users(error):
                raise
            return f"{name} failed with {in_short(error)}"
        if sentence is not None:
            return sentence
    return None


def _needs(name: str, found: Any) -> str | None:
    if not isinstance(found, Needs):
        return f"{name} must be an arena.players.Needs; found {type(found).__name__}"
    for field, words in _TUPLES.items():
        value = getattr(found, field)
        if not isinstance(value, tuple) or not value or not set(value) <= set(words):
            return (
                f"needs.{field} must be a tuple of one or more of {', '.join(words)}; found {_shown(value)}"
            )
    for field, words in _WORDS.items():
        if (flaw := _one_of(f"needs.{field}", getattr(found, field), words)) is not None:
            return flaw
    for field in ("images", "surrogates"):
        if type(value := getattr(found, field)) is not int or value < 0:
            return f"needs.{field} must be a whole number from 0; found {_shown(value)}"
    return _bool("needs.prefix", found.prefix)


def _twin(name: str, found: Any) -> str | None:
    if found is None or isinstance(found, Attacker):
        return None
    return f"{name} must be an attacker or None; found {_shown(found)}"


def _count(name: str, found: Any) -> str | None:
    if type(found) is int and 1 <= found <= MOST:
        return None
    return f"{name} must be a whole number from 1 to {MOST:,}; found {_shown(found)}"


def _bool(name: str, found: Any) -> str | None:
    return None if type(found) is bool else f"{name} must be True or False; found {_shown(found)}"


def _one_of(name: str, found: Any, words: tuple[str, ...]) -> str | None:
    if type(found) is str and found in words:
        return None
    return f"{name} must be one of {', '.join(words)}; found {_shown(found)}"


def _names(name: str, found: Any) -> str | None:
    if type(found) is tuple and all(type(one) is str for one in found):
        return None
    return f"{name} must be a tuple of names of parameters; found {_shown(found)}"


def _shown(found: object) -> str:
    return one_line(quoted(found))
