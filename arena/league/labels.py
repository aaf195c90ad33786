"""Names of agents in tables, and their parameters as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from arena.log.schema import to_json


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The content of JSON values, one (key, value) each; the keys of nested ones are joined with dots."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        for place, inner in enumerate(value, 1):
            yield from leaves(inner, f"{key}.{place}".lstrip(".") if len(value) > 1 else key)
    else:
        yield key, value


def flat(value: Any) -> Iterator[tuple[str, str]]:
    """`leaves` as text, without empty tables and lists."""
    for key, leaf in leaves(value):
        if isinstance(leaf, float):
            yield key, f"{leaf:.6g}"
        elif leaf is None:
            yield key, "none"
        elif not isinstance(leaf, Mapping | list | tuple) or leaf:  # a tensor may say neither yes nor no
            yield key, leaf if isinstance(leaf, str) else to_json(leaf)


def labels_apart(agents: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Titles, with the parameters that differ among equal titles."""
    values = [dict(flat(params)) for _, params in agents]
    labels = []
    for (title, _), own in zip(agents, values, strict=True):
        others = [v for (t, _), v in zip(agents, values, strict=True) if t == title]
        keys = [k for k in own if len({v.get(k) for v in others}) > 1]
        text = ", ".join(f"{key.removeprefix('defenders.')}={own[key]}" for key in keys)
        labels.append(f"{title} ({text})" if text else title)
    return labels
