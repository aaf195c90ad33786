"""The plain attacker inside an adaptive one."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

from arena.players import Attacker

Plain = TypeVar("Plain", bound=Attacker)


def plain(adaptive: Attacker, base: type[Plain]) -> Plain:
    """The attacker of class `base`, of which `adaptive` is a subclass, with the parameters that both have."""
    own: Any = base
    return base(**{f.name: getattr(adaptive, f.name) for f in fields(own) if f.init})
