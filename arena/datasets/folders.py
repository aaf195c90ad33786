"""Where data and weights are looked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from arena.inputs.places import ODD, expanded, kind_of


def cache() -> Path:
    """The user's cache: $XDG_CACHE_HOME/arena or ~/.cache/arena."""
    return (Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "arena").expanduser().absolute()


def search_path(folders: Iterable[Path] = ()) -> list[Path]:
    """The folders to look in, in this order: those given (a scenario's own, `--data`), the current one, the
    environment's ARENA_DATA, and the user's cache."""
    named = [Path(os.environ["ARENA_DATA"])] if os.environ.get("ARENA_DATA") else []
    every = [*map(Path, folders), Path.cwd(), *named, cache()]
    return list(dict.fromkeys(expanded(folder).absolute() for folder in every))


def find(what: str, names: Sequence[str], folders: Iterable[Path], advice: str) -> Path:
    """The first file or folder of one of these names in the search path; absolute names are taken as they
    are.

    Raises FileNotFoundError that names the places searched and gives `advice` on what to do.
    """
    places = search_path(folders)
    for place in places:
        for name in names:
            path = place / expanded(name)
            if (kind := kind_of(path)) == "other":
                raise FileNotFoundError(f"{what}: {path} {ODD}")
            if kind != "nothing":
                return path
    if expanded(names[0]).is_absolute():
        raise FileNotFoundError(f"{what}: there is no {names[0]}; {advice}")
    raise FileNotFoundError(
        f"{what}: no {' or '.join(names)} in any of {', '.join(map(str, places))}; {advice}"
    )
