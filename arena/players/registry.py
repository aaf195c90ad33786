"""Agents by name, found through entry points (docs/design.md, D9)."""

from __future__ import annotations

import json
import operator
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeAlias, TypeGuard, TypeVar, Union

from pydantic import ConfigDict, TypeAdapter, ValidationError

from arena.inputs.names import NameRefused, import_attribute
from arena.interruptions import is_the_users
from arena.messages import UserError, in_short, near, quoted
from arena.players import Attacker, Defender
from arena.players.declared import flaw_of_declared
from arena.players.parameters import parameters
from arena.players.stand_in import StandIn

Kind = Literal["attacker", "defender"]
Spec: TypeAlias = str | Mapping[str, Any] | Attacker | Defender | type[Attacker] | type[Defender]
"""An agent, or how to make one: a name, "module:Class", {name = ..., parameters}, or a class that needs no
parameters."""
Agent = TypeVar("Agent", Attacker, Defender)

_ARENA = "blackbox-arena"
_STRICT = ConfigDict(arbitrary_types_allowed=True, strict=True)
_BASES: dict[Kind, type] = {"attacker": Attacker, "defender": Defender}


class AgentError(UserError, ValueError):
    """An agent that cannot be found or built: one sentence on what was wrong and what is allowed."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of an agent, as `arena agents show` prints it."""

    name: str
    type: str
    default: str


def names(kind: Kind) -> list[str]:
    """The names of all agents of a kind that are installed."""
    return sorted(_entries(kind))


def agent_class(kind: Kind, name: str) -> type:
    """The class of an agent by its name or as "module:Class".

    Raises:
        AgentError: if there is none of that name, or more than one, if it cannot be imported, or if it is not
        a
            frozen dataclass of that kind.
    """
    entries = _entries(kind)
    _check_name(kind, name)
    try:
        found = entries[name].load() if name in entries else import_attribute(name)
    except NameRefused as error:
        raise AgentError(f'{kind} "{name}": {error}') from error
    except BaseException as error:  # importing runs a plug-in's code, which may raise anything
        if is_the_users(error):
            raise
        reason = in_short(error)
        raise AgentError(f'{kind} "{name}" cannot be imported: {reason}') from error
    return _class_of(kind, name, found)


def where_written(kind: Kind, name: str) -> tuple[str, bool]:
    """The module in which an agent of that name is written, and whether it comes with the arena; nothing is
    imported.

    Raises:
        AgentError: if there is none of that name, or more than one.
    """
    _check_name(kind, name)
    if (entry := _entries(kind).get(name)) is None:
        return name.partition(":")[0], False
    return entry.module, entry.dist is not None and entry.dist.name == _ARENA


def missing_parameter(kind: Kind, name: str) -> str | None:
    """One sentence on the first parameter that an agent cannot be made without, or None if there is none.

    Raises:
        AgentError: as `agent_class`.
    """
    return _missing(agent_class(kind, name), {})


def name_of(agent: Attacker | Defender) -> str:
    """The name of an agent's class, as `name_of_class` gives it."""
    if isinstance(agent, StandIn):
        return agent.name
    return name_of_class("attacker" if isinstance(agent, Attacker) else "defender", type(agent))


def name_of_class(kind: Kind, found: type) -> str:
    """The name under which an agent's class is registered, else "module:Class"."""
    own = f"{found.__module__}:{found.__qualname__}"
    clashes = _clashes(kind)
    named = (name for name, entry in _entries(kind).items() if entry.value == own and name not in clashes)
    return next(named, own)


def build_attacker(spec: Spec) -> Attacker:
    """The attacker that `spec` describes. Raises AgentError, for what it says of itself (`declared`), too."""
    return typing.cast(Attacker, _sound("attacker", build_agent("attacker", spec)))


def build_defender(spec: Spec) -> Defender:
    """The defender that `spec` describes. Raises AgentError, as `build_attacker` does."""
    return typing.cast(Defender, _sound("defender", build_agent("defender", spec)))


def build_stack(
    spec: Spec | Sequence[Spec], build: Callable[[Spec], Defender] | None = None
) -> tuple[Defender, ...]:
    """The stack of defenders, outermost first, from one spec, several, or {stack = [...]}.

    Args:
        build: makes each of them; None: `build_defender`.

    Raises:
        AgentError: if one cannot be built, or there is none.
    """
    build = build or build_defender
    if isinstance(spec, Mapping) and "stack" in spec:
        if set(spec) != {"stack"} or not _is_list(spec["stack"]):
            raise AgentError("a stack of defenders is { stack = [defender, ...] } and nothing else")
        spec = spec["stack"]
    if _is_list(spec):
        if not spec:
            raise AgentError('a stack of defenders must hold at least one; the undefended one is "none"')
        return tuple(map(build, spec))
    return (build(typing.cast(Spec, spec)),)


def parameters_of(found: type) -> list[Parameter]:
    """The parameters of an agent's class."""
    hints = typing.get_type_hints(found)
    return [
        Parameter(f.name, _type_name(hints[f.name]), "required" if _required(f) else repr(_default(f)))
        for f in fields(found)
        if f.init
    ]


def _check_name(kind: Kind, name: str) -> None:
    entries = _entries(kind)
    if name not in entries and ":" not in name:
        other: Kind = "defender" if kind == "attacker" else "attacker"
        own = f", but {other} {name}" if name in _entries(other) else ""
        raise AgentError(f'there is no {kind} "{name}"{own}; {near(name, entries)}')
    if name in (clashes := _clashes(kind)):
        both = " and ".join(clashes[name])
        raise AgentError(f'{kind} "{name}" is declared more than once, as {both}; name the one meant so')


def _class_of(kind: Kind, name: str, found: object) -> type:
    """`found` as the class of an agent of a kind."""
    if not (isinstance(found, type) and issubclass(found, _BASES[kind])):
        raise AgentError(f'{kind} "{name}" must be a subclass of {_BASES[kind].__name__}')
    if not is_dataclass(found):
        raise AgentError(f'{kind} "{name}" must be a dataclass(frozen=True): its fields are its parameters')
    return found


def _sound(kind: Kind, agent: Attacker | Defender) -> Attacker | Defender:
    if (flaw := flaw_of_declared(agent) or _flaw_of_parameters(agent)) is not None:
        raise AgentError(f'{kind} "{name_of(agent)}": {flaw}')
    return agent


def _flaw_of_parameters(agent: Attacker | Defender) -> str | None:
    """One sentence if the log cannot hold an agent's parameters, not even as their texts."""
    try:
        json.dumps(parameters(agent), sort_keys=True, default=str)
    except BaseException as error:  # a parameter of a stranger's class, which may raise anything
        if is_the_users(error):
            raise
        why = in_short(error)
        return f"its parameters cannot be written to the log as JSON: {why}"
    return None


def build_agent(kind: Kind, spec: Any) -> Attacker | Defender:
    """The agent that `spec` describes, whatever it says of itself. Raises AgentError."""
    if isinstance(spec, _BASES[kind]):
        return _with_instances(kind, typing.cast("Attacker | Defender", spec))
    if isinstance(spec, type):
        return _of_class(kind, spec)
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise AgentError(f"{kind} must be a name or a table with a name; found {quoted(spec)}")
    name = spec["name"]
    found = agent_class(kind, name)
    given = {key: value for key, value in spec.items() if key != "name"}
    allowed = [f.name for f in fields(found) if f.init]
    for key in given:
        if key not in allowed:
            raise AgentError(f'{kind} "{name}" has no parameter "{key}"; {near(key, allowed)}')
    if (missing := _missing(found, given)) is not None:
        raise AgentError(f'{kind} "{name}" {missing}')
    return _made(kind, name, found, given)


def _of_class(kind: Kind, spec: type) -> Attacker | Defender:
    """An agent of a class, with its default parameters."""
    name = name_of_class(kind, spec)
    found = _class_of(kind, name, spec)
    if (missing := _missing(found, {})) is not None:
        raise AgentError(f'{kind} "{name}" {missing}: give an instance, {spec.__name__}(...), not the class')
    return _made(kind, name, found, {})


def _with_instances(kind: Kind, agent: Attacker | Defender) -> Attacker | Defender:
    """`agent` with instances in place of the classes among the agents inside it: Wrapper(of=Inner).

    Of its other parameters only words are checked, which no code of its own may ever compare with all that
    are allowed; numbers may be of a type that takes the place of the one that is declared.
    """
    if not is_dataclass(agent):
        return agent
    own = {f.name: getattr(agent, f.name) for f in fields(agent) if f.init}
    for key, hint in _words(type(agent)).items():
        _value(kind, name_of(agent), key, hint, own[key])
    inside = {key: value for key, value in own.items() if any(map(_is_agent, _held(value)))}
    if not inside:
        return agent
    hints, name = typing.get_type_hints(type(agent)), name_of(agent)
    made = {key: _value(kind, name, key, hints[key], value) for key, value in inside.items()}
    changed = {k: v for k, v in made.items() if any(map(operator.is_not, _held(v), _held(inside[k])))}
    return typing.cast("Attacker | Defender", replace(agent, **changed)) if changed else agent


def _words(found: type) -> dict[str, Any]:
    """The parameters that are one of a few words, with their types; none where types cannot be looked up, as
    of a class that was made in a function."""
    try:
        hints = typing.get_type_hints(found)
    except (NameError, TypeError):
        return {}
    return {f.name: hints[f.name] for f in fields(found) if f.init and _is_word(hints[f.name])}


def _is_word(hint: Any) -> bool:
    """Whether a type is that of a word, or of a word that need not be given."""
    if typing.get_origin(hint) is Union:
        return all(one is types.NoneType or _is_word(one) for one in typing.get_args(hint))
    return typing.get_origin(hint) is Literal


def _held(value: object) -> Sequence[object]:
    return value if isinstance(value, tuple) else (value,)


def _is_agent(value: object) -> bool:
    bases = tuple(_BASES.values())
    return isinstance(value, bases) or (isinstance(value, type) and issubclass(value, bases))


def _missing(found: type, given: Mapping[str, Any]) -> str | None:
    hints = typing.get_type_hints(found)
    keys = (f.name for f in fields(found) if f.init and _required(f) and f.name not in given)
    key = next(keys, None)
    return None if key is None else f'needs parameter "{key}" ({_type_name(hints[key])})'


def _made(kind: Kind, name: str, found: type, given: Mapping[str, Any]) -> Attacker | Defender:
    hints = typing.get_type_hints(found)
    values = {key: _value(kind, name, key, hints[key], value) for key, value in given.items()}
    try:
        return typing.cast("Attacker | Defender", found(**values))
    except BaseException as error:  # a plug-in's __post_init__ may raise anything
        if is_the_users(error):
            raise
        reason = str(error) if isinstance(error, ValueError) else in_short(error)
        raise AgentError(f'{kind} "{name}": {reason}') from error


def _value(kind: Kind, name: str, key: str, hint: Any, value: Any) -> Any:
    for inner, base in _BASES.items():
        optional = isinstance(hint, types.UnionType) and base in typing.get_args(hint) and value is not None
        if hint is base or optional:
            return build_agent(inner, value)
        if typing.get_origin(hint) is tuple and typing.get_args(hint)[:1] == (base,):
            if not _is_list(value):
                raise AgentError(
                    f'{kind} "{name}", parameter "{key}": found {quoted(value)}; it must be a list'
                )
            return tuple(build_agent(inner, one) for one in value)
    if isinstance(value, list):
        value = tuple(value)
    try:
        return TypeAdapter(hint, config=_STRICT).validate_python(value)
    except ValidationError as error:
        expected = error.errors()[0]["msg"]
        raise AgentError(
            f'{kind} "{name}", parameter "{key}" ({_type_name(hint)}): found {quoted(value)}; '
            f"{expected[0].lower()}{expected[1:]}"
        ) from error


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


@cache
def _entries(kind: Kind) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=f"arena.{kind}s")}


@cache
def _clashes(kind: Kind) -> dict[str, list[str]]:
    """Names that installed distributions declare for different classes, with these classes."""
    values: dict[str, set[str]] = {}
    for entry in entry_points(group=f"arena.{kind}s"):
        values.setdefault(entry.name, set()).add(entry.value)
    return {name: sorted(found) for name, found in values.items() if len(found) > 1}


def public_parameters(defenders: Sequence[Defender]) -> dict[str, Any]:
    """What a threat with knowledge of the defense shows an attacker: names and parameters, without secrets
    (docs/design.md, D5)."""
    return {"defenders": [{"name": name_of(d), **parameters(d, secrets=False)} for d in defenders]}
