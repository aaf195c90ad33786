"""What results depend on besides scenario, data and weights: versions and code, for logs and model cards."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import json
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path
from typing import Any

import torch

from arena.inputs.names import NameRefused, import_named

_SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES)
_SITES = ("site-packages", "dist-packages")
_Listed = Callable[[Path], frozenset[str]]


def versions(*packages: str) -> dict[str, str]:
    """Of this project and of what its numbers depend on, by name; and of these optional packages."""
    return {
        "blackbox-arena": _version("blackbox-arena"),
        "torch": torch.__version__,
        "numpy": _version("numpy"),
        "pillow": _version("pillow"),
        "python": platform.python_version(),
        **{
            name: getattr(importlib.import_module(name), "__version__", "unknown")
            for name in sorted(set(packages))
        },
    }


_version = cache(metadata.version)


def code_of(written: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the files that modules, or classes of theirs, are written in, by the modules' names."""
    files = {name: inspect.getsourcefile(thing) for name, thing in written.items()}
    return {
        name: hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for name, file in sorted(files.items())
        if file is not None
    }


def module_of(network: str) -> dict[str, Any]:
    """The module that a network's name ("module:Class") begins with, by its own name, if there is one."""
    name, colon, _ = network.partition(":")
    try:
        return {name: import_named(name)} if colon else {}
    except NameRefused:  # whoever builds the network says so
        return {}


@dataclass(frozen=True)
class Closure:
    """Some modules and all that they import, directly or not.

    Attributes:
        sources: SHA-256 of the modules' files by the modules' names; of those alone that belong to no
            installed distribution.
        distributions: versions of the installed distributions among them, by name.
    """

    sources: Mapping[str, str]
    distributions: Mapping[str, str]

    @property
    def sha(self) -> str:
        """SHA-256 of the names and sources."""
        return hashlib.sha256(json.dumps(self.sources, sort_keys=True).encode()).hexdigest()


def source_closure(modules: Iterable[str]) -> Closure:
    """The closure of imports of these modules, read from their files without importing any.

    An import counts wherever in a file it stands, inside functions too, but not under `if TYPE_CHECKING`; so
    do the packages around a module, whose `__init__` is run before it. What is imported by a name that only a
    running program knows (`importlib.import_module(name)`) is not seen. The standard library, modules that
    are not there and modules without a file (a notebook's) contribute nothing. An installed distribution
    contributes its version and hides what it imports itself; an editable installation is source.
    """
    sources: dict[str, str] = {}
    distributions: dict[str, str] = {}
    found: dict[str, _Module | None] = {}
    waiting = list(modules)
    listed: _Listed = cache(_list)  # for this call alone: files come and go
    while waiting:
        for name in _with_parents(waiting.pop()):
            if new := name not in found:
                found[name] = _find(name, found.get(name.rpartition(".")[0]), listed)
            module = found[name]
            if module is None:
                break
            if module.file is None:
                continue
            if installed := _distributions(module.root, name.partition(".")[0]):
                distributions |= installed
                break
            if new:
                source = _read(module.file)
                sources[name] = source.sha
                waiting += _absolute(source, name, bool(module.folders))
    return Closure(dict(sorted(sources.items())), dict(sorted(distributions.items())))


@dataclass(frozen=True)
class _Module:
    """Where a module lies: its `file`, None for a namespace package; the `folders` in which a package's
    modules are looked for; and the folder of the search path, `root`, that all of it lies below."""

    file: Path | None
    folders: Sequence[Path]
    root: Path


@dataclass(frozen=True)
class _Source:
    """A file's SHA-256, and its imports as written: how many dots, the module, the names taken from it."""

    sha: str
    imports: tuple[tuple[int, str, tuple[str, ...]], ...]


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:n]) for n in range(1, len(parts) + 1))


def _find(name: str, package: _Module | None, listed: _Listed) -> _Module | None:
    if "." not in name:
        return None if name in sys.stdlib_module_names else _find_top(name)
    leaf = name.rpartition(".")[2]
    portions = []
    for folder in package.folders if package else ():
        place = folder / leaf
        root = package.root if package and package.file else place.parents[name.count(".")]
        if leaf in listed(folder) and place.is_dir():
            if (file := _file(place, "__init__", listed)) is not None:
                return _Module(file, (place,), root)
            portions.append(place)
        if (file := _file(folder, leaf, listed)) is not None:
            return _Module(file, (), root)
    return _Module(None, portions, Path()) if portions else None


def _file(folder: Path, stem: str, listed: _Listed) -> Path | None:
    return next((folder / (stem + s) for s in _SUFFIXES if stem + s in listed(folder)), None)


def _list(folder: Path) -> frozenset[str]:
    return frozenset(file.name for file in folder.iterdir()) if folder.is_dir() else frozenset()


def _find_top(name: str) -> _Module | None:
    """Importing finds top-level modules in more ways than along `sys.path`, none of which runs the module."""
    if name == "__main__":
        script = getattr(sys.modules[name], "__file__", None)
        return None if script is None else _Module(Path(script), (), Path(script).parent)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = tuple(map(Path, spec.submodule_search_locations or ()))
    if spec.origin is not None and spec.has_location and Path(spec.origin).is_file():
        file = Path(spec.origin)
        return _Module(file, folders, file.parents[1 if folders else 0])
    return _Module(None, folders, Path()) if folders else None


def _absolute(source: _Source, name: str, is_package: bool) -> Iterator[str]:
    """The imports of module `name` by their whole names: of `from a import b` both a and a.b."""
    for dots, module, names in source.imports:
        around = name.split(".")
        around = around[: max(0, len(around) - dots + is_package)] if dots else []
        whole = ".".join([*around, *filter(None, [module])])
        if whole:
            yield whole
            yield from (f"{whole}.{own}" for own in names)


@cache
def _distributions(root: Path, top: str) -> dict[str, str]:
    """The installed distributions that hold the top-level module `top` in a folder of the search path."""
    starts = f"\n{top}/", f"\n{top}.", f"\n{top}\n"
    holders = (d for d, held in _installed(root) if any(start in held for start in starts))
    return {d.metadata["Name"]: d.version for d in holders}


@cache
def _installed(root: Path) -> list[tuple[metadata.Distribution, str]]:
    """The distributions in a folder, and what they hold: files, or top-level modules, a line each.

    A checkout may hold a distribution's metadata too, which then list no files.
    """
    found = []
    for distribution in metadata.distributions(path=[str(root)]):
        held = distribution.read_text("RECORD")
        if held is None and root.name in _SITES:
            held = distribution.read_text("top_level.txt")
        if held is not None:
            found.append((distribution, f"\n{held}\n"))
    return found


_known: dict[Path, tuple[tuple[int, int], _Source]] = {}


def _read(file: Path) -> _Source:
    stat = file.stat()
    state = stat.st_mtime_ns, stat.st_size
    if file not in _known or _known[file][0] != state:
        content = file.read_bytes()
        imports = tuple(_imports(content)) if file.suffix in SOURCE_SUFFIXES else ()
        _known[file] = state, _Source(hashlib.sha256(content).hexdigest(), imports)
    return _known[file][1]


def _imports(content: bytes) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    try:
        waiting: list[ast.AST] = [ast.parse(content)]
    except (SyntaxError, ValueError):  # whoever imports it says so
        return
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", tuple(alias.name for alias in node.names)
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            waiting += node.orelse
        else:
            inside = ast.iter_child_nodes(node)
            waiting += [n for n in inside if isinstance(n, ast.stmt | ast.excepthandler | ast.match_case)]


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"
