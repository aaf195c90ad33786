"""Which files an agent's process may read: Python and installed packages, the arena's source, its own.

Not the weights that come with the arena, nor the data sets that come with scikit-learn; not other agents that
are installed; and nothing that lies elsewhere: data, logs, scenarios, prepared defenders, secret seeds.
"""

from __future__ import annotations

import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from arena.provenance import source_closure

_ARENA = Path(__file__).parents[1]
_HARDWARE = ("/proc/cpuinfo", "/sys/devices/system/cpu", "/usr/share/zoneinfo", "/etc/localtime")
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
_DATA = ("datasets/data", "datasets/images")
_OURS = "agents."


@dataclass(frozen=True)
class Grants:
    """What an agent's process may read.

    Attributes:
        readable: files, and folders all of whose files may be read.
        listable: folders in which names may be looked up.
        own: the files and folders of the top-level modules that the agent is written in or imports, by name;
            a package's may be several.
    """

    readable: tuple[str, ...]
    listable: tuple[str, ...]
    own: dict[str, list[str]]


def grants_for(modules: Iterable[str]) -> Grants:
    """What the process of an agent that is written in these modules may read.

    Its own are the top-level packages of these modules, whole. Of other packages that their source imports,
    read without running it, where they are not installed distributions, it may read the modules that it
    imports and no other file, and look up names; of those of other installed agents, nothing.
    """
    wanted = tuple(sorted(modules))
    written = {name.partition(".")[0] for name in wanted}
    imported = sorted(set(source_closure(wanted).sources) - set(wanted))
    tops = {name.partition(".")[0] for name in imported} - _agents_tops() | written
    if any(name.startswith(_OURS) for name in imported):
        tops.add("agents")
    own = {top: places for top in sorted(tops - {"arena"}) if (places := _places(top))}
    whole = written | {"agents"} & tops
    held = {Path(place) for top in sorted(whole & own.keys()) for place in own[top]}
    readable, listable = _installed(tuple(sorted(whole & own.keys())))
    mine = [str(path) for place in sorted(held) for path in _without(place, _withheld_of_arena())]
    apart = [name for name in imported if (top := name.partition(".")[0]) in own and top not in whole]
    files = [file for name in apart for file in _source(name, own[name.partition(".")[0]])]
    folders = [place for top in sorted(own.keys() - whole) for place in own[top] if Path(place).is_dir()]
    return Grants((*readable, *mine, *files), (*listable, *folders), own)


def _source(name: str, places: Sequence[str]) -> Iterator[str]:
    """The file of a module below the places of its top-level one."""
    for place in map(Path, places):
        inside = place.joinpath(*name.split(".")[1:])
        for file in (place, inside.with_suffix(".py"), inside / "__init__.py"):
            if file.is_file():
                yield str(file)


@cache
def _installed(own: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is there for any agent whose own top-level modules are these: what may be read, and listed."""
    roots = _roots()
    withheld = {*_withheld_of_arena(), *(Path(p) / data for p in _places("sklearn") for data in _DATA)}
    withheld |= {Path(p) for top in _agents_tops() - {*own} for p in _places(top)}
    named = filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    found: list[Path] = [*map(Path, (*_LIBRARIES, *_HARDWARE, *named))]
    for place in (*roots, _ARENA):
        found += _without(place, withheld)
    existing = dict.fromkeys(str(path) for path in found if path.exists())
    return tuple(existing), tuple(str(place) for place in (*roots, _ARENA))


def _roots() -> list[Path]:
    """The folders of Python and of installed packages."""
    named = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    places = [Path(sys.base_prefix) / "lib", *map(Path, named), *map(Path, site.getsitepackages())]
    if site.ENABLE_USER_SITE:
        places.append(Path(site.getusersitepackages()))
    found = sorted({place.resolve() for place in places if place.is_dir()})
    return [place for place in found if not any(other in place.parents for other in found)]


def _withheld_of_arena() -> frozenset[Path]:
    return frozenset({_ARENA / "classifiers" / "weights"})


def _agents_tops() -> set[str]:
    """The top-level modules of installed agents."""
    groups = ("arena.attackers", "arena.defenders")
    values = (entry.value for group in groups for entry in entry_points(group=group))
    return {value.partition(":")[0].partition(".")[0] for value in values}


def _places(top: str) -> list[str]:
    """The file of a top-level module, or the folders of a package; nothing of it is run."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [str(Path(place).resolve()) for place in spec.submodule_search_locations]
    return [str(Path(spec.origin).resolve())] if spec.origin and spec.has_location else []


def _without(place: Path, withheld: Iterable[Path]) -> Iterator[Path]:
    """The fewest files and folders that make up `place` but for what is withheld."""
    place = place.resolve()
    inside = [path for path in withheld if path == place or place in path.parents]
    if place in inside:
        return
    if not inside:
        yield place
        return
    for child in sorted(place.iterdir()):
        yield from _without(child, inside)
