"""Sizes of a scenario: tables that override its keys, so that one file plays small here and in full on a
GPU."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from arena.messages import near, quoted

TomlTable: TypeAlias = Mapping[str, Any]
MOST_SIZES = 20
_NAME = re.compile(r"\w[\w.+-]{0,49}")
_NAMED = "allowed are at most 50 letters, digits and _, and behind the first also . + and -"
_OUTSIDE = {
    "block": "a size holds no blocks; write [block.sizes.NAME] for a size of a block",
    "size": "a size names no other",
    "sizes": "a size holds no sizes",
}


class SizeError(ValueError):
    """What is wrong with a scenario's sizes: the key, what was found, and what is allowed."""


def read_sizes(top: TomlTable, blocks: Sequence[TomlTable]) -> tuple[str, ...]:
    """The names of a file's sizes, the default first, then in the order of the file; empty if there are none.

    Sizes are named at the top level, `[sizes.NAME]`, where `size` names the default; a block may have its own
    keys for any of them.

    Raises:
        SizeError: if a size is no table or holds a key that sizes must not hold, if a block names one that
            the top level does not, or if `size` is missing or names none.
    """
    names = list(_tables(top, ""))
    if len(names) > MOST_SIZES:
        raise SizeError(f"sizes: found {len(names):,} of them; {MOST_SIZES} are allowed")
    for place, block in enumerate(blocks, 1):
        if "size" in block:
            raise SizeError(f"block {place}: size: it is for the top level alone, where it names the default")
        for name in _tables(block, f"block {place}: "):
            if name not in names:
                raise SizeError(
                    f"block {place}: sizes.{name}: the top level names no such size; {near(name, names)}"
                )
    if not names:
        if "size" in top:
            raise SizeError(
                f"size: found {quoted(top['size'])}; there are no sizes, write them as [sizes.NAME]"
            )
        return ()
    default = top.get("size")
    if default is None:
        raise SizeError(f"size: this key is missing; it names the default of: {', '.join(names)}")
    if default not in names:
        raise SizeError(f"size: there is no size {quoted(default)}; {near(quoted(default), names)}")
    return default, *(name for name in names if name != default)


def choose_size(sizes: Sequence[str], wanted: str | None) -> str:
    """The size that is `wanted`, else the default; "" for a file without sizes.

    Raises:
        SizeError: if there is no such size.
    """
    if wanted is None:
        return sizes[0] if sizes else ""
    if not sizes:
        raise SizeError(f'there is no size "{wanted}": the scenario has no sizes')
    if wanted not in sizes:
        raise SizeError(f'there is no size "{wanted}"; {near(wanted, sizes)}')
    return wanted


def in_size(table: TomlTable, size: str) -> dict[str, Any]:
    """A top level or block with the keys of `size` overriding its own."""
    own = {key: value for key, value in table.items() if key not in ("size", "sizes")}
    return merged(own, table.get("sizes", {}).get(size, {}))


def merged(under: TomlTable, over: TomlTable) -> dict[str, Any]:
    """One table with the keys of another overriding it: a block over the top level, a size over either; a
    threat is overridden key by key."""
    both = {**under, **over}
    if isinstance(under.get("threat"), dict) and isinstance(over.get("threat"), dict):
        both["threat"] = {**under["threat"], **over["threat"]}
    if "threats" in over:
        both.pop("threat", None)
    if "worlds" in over:
        both.pop("dataset", None), both.pop("classifier", None)
    return both


def _tables(table: TomlTable, where: str) -> dict[str, TomlTable]:
    """The sizes of a top level or block by name."""
    sizes = table.get("sizes", {})
    if not isinstance(sizes, dict):
        raise SizeError(f"{where}sizes: found {quoted(sizes)}; write each size as [sizes.NAME]")
    for name, size in sizes.items():
        if not _NAME.fullmatch(name):
            raise SizeError(f"{where}sizes: found the name {quoted(name)}; {_NAMED}")
        if not isinstance(size, dict):
            raise SizeError(f"{where}sizes.{name}: found {quoted(size)}; write it as [sizes.{name}]")
        for key, sentence in _OUTSIDE.items():
            if key in size:
                raise SizeError(f"{where}sizes.{name}.{key}: {sentence}")
    return sizes
