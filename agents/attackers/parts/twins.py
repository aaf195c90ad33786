"""The plain attacker inside an adaptive one, and what an attacker is called in notes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

from arena.players import Attacker

Plain = TypeVar("Plain", bound=Attacker)


def plain(adaptive: Attacker, base: type[Plain]) -> Plain:
    """The attacker of class `base`, of which `adaptive` is a subclass, with the parameters that both have."""
    own: Any = base
    return base(**{f.name: getattr(adaptive, f.name) for f in fields(own) if f.init})


def briefly(attacker: Attacker) -> str:
    """An attacker's class and those of its parameters that are not the defaults, in one line."""
    of: Any = attacker
    given = ((f.name, getattr(attacker, f.name), f.default) for f in fields(of))
    told = (f"{name}={_shown(value)}" for name, value, default in given if value != default)
    return f"{type(attacker).__name__}({', '.join(told)})"


def _shown(value: object) -> str:
    if isinstance(value, Attacker):
        return briefly(value)
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
