"""Matches in one `.npz` file: plain arrays, and a text of JSON that says the rest. Nothing is pickled."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from arena.records.match_record import MatchRecord
from arena.records.reports import GameRows, MarkRows, NoteRows, QueryRows
from arena.records.runs import MatchInfo, RunInfo
from arena.rules.threat import parse_threat

FORMAT = "arena results 1"
_ABOUT = "about"
Arrays = dict[str, NDArray[Any]]
Record = TypeVar("Record", bound=MatchRecord)


def write(records: Sequence[MatchRecord], to: str | Path, name: str) -> Path:
    """Write matches to a file, or into a folder that is there under `name`; its path, which ends in `.npz`.

    Raises:
        ValueError: if it cannot be written.
    """
    path = Path(to)
    if path.is_dir():
        path = path / name
    if path.suffix != ".npz":
        path = path.with_name(f"{path.name}.npz")
    arrays: Arrays = {}
    about = [_pack(record, f"{place}.", arrays) for place, record in enumerate(records)]
    arrays[_ABOUT] = np.array(json.dumps({"format": FORMAT, "results": about}))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise ValueError(f"results cannot be written to {path}: {error.strerror}") from error
    return path


def read(path: str | Path, kind: type[Record]) -> list[Record]:
    """The matches of a file that `write` wrote, each as a `kind`.

    Raises:
        ValueError: if it is no such file, or cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        about = json.loads(str(arrays.pop(_ABOUT)))
        if about["format"] != FORMAT:
            raise KeyError("format")
    except OSError as error:
        raise ValueError(f"results cannot be read from {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no results that this version of the arena has saved") from error
    return [_unpack(each, f"{place}.", arrays, kind) for place, each in enumerate(about["results"])]


def _pack(record: MatchRecord, prefix: str, arrays: Arrays) -> dict[str, Any]:
    """A match as JSON values; its arrays are added under names that begin with `prefix`."""
    same = (name for name, array in arrays.items() if array is record.originals)
    originals = next(same, f"{prefix}originals")
    arrays[originals] = record.originals
    _add(arrays, f"{prefix}games.", record.games, ("reason",))
    for at, rows in record.marks.items():
        _add(arrays, f"{prefix}marks.{at}.", rows, ("at",))
    for column in _columns(QueryRows, "purpose") if record.rows else ():
        parts = [getattr(rows, column) for rows in record.rows]
        if parts[0] is not None:
            arrays[f"{prefix}rows.{column}"] = np.concatenate(parts)
    return {
        "match": {**vars(record.match), "threat": record.match.threat.model_dump(mode="json")},
        "run": asdict(record.run),
        "originals": originals,
        "reason": record.games.reason,
        "marks": list(record.marks),
        "rows": [[rows.purpose, len(rows)] for rows in record.rows],
        "notes": [
            [
                n.key,
                n.game.tolist(),
                n.turn.tolist(),
                [v if isinstance(v, str) else float(v) for v in n.value],
            ]
            for n in record.notes
        ],
        "purposes": {purpose: counts.tolist() for purpose, counts in record.purposes.items()},
        "prefix": record.prefix,
        "shorter": [
            _pack(part, f"{prefix}shorter.{place}.", arrays) for place, part in enumerate(record.shorter)
        ],
    }


def _unpack(about: Mapping[str, Any], prefix: str, arrays: Arrays, kind: type[Record]) -> Record:
    shorter = (
        _unpack(part, f"{prefix}shorter.{place}.", arrays, kind)
        for place, part in enumerate(about["shorter"])
    )
    return kind(
        match=_match(about["match"]),
        run=RunInfo(**about["run"]),
        originals=arrays[about["originals"]],
        games=GameRows(reason=about["reason"], **_taken(arrays, f"{prefix}games.", GameRows, "reason")),
        marks={
            at: MarkRows(at, **_taken(arrays, f"{prefix}marks.{at}.", MarkRows, "at"))
            for at in about["marks"]
        },
        rows=list(_rows(about["rows"], prefix, arrays)),
        notes=[
            NoteRows(key, np.array(g, np.int64), np.array(t, np.int64), v) for key, g, t, v in about["notes"]
        ],
        purposes={purpose: np.array(counts, np.int64) for purpose, counts in about["purposes"].items()},
        prefix=about["prefix"],
        shorter=tuple(shorter),
    )


def _match(about: Mapping[str, Any]) -> MatchInfo:
    lists = {name: tuple(about[name]) for name in ("image_shape", "at", "radii")}
    return MatchInfo(**{**about, **lists, "threat": parse_threat(about["threat"])})


def _rows(volleys: Sequence[tuple[str, int]], prefix: str, arrays: Arrays) -> Iterator[QueryRows]:
    first = 0
    names = [name for name in _columns(QueryRows, "purpose") if f"{prefix}rows.{name}" in arrays]
    taken = {name: arrays[f"{prefix}rows.{name}"] for name in names}
    for purpose, count in volleys:
        yield QueryRows(purpose, **{name: column[first : first + count] for name, column in taken.items()})
        first += count


def _columns(kind: type[Any], *but: str) -> list[str]:
    return [f.name for f in fields(kind) if f.name not in but]


def _add(arrays: Arrays, prefix: str, rows: Any, but: Sequence[str]) -> None:
    for name in _columns(type(rows), *but):
        arrays[prefix + name] = getattr(rows, name)


def _taken(arrays: Arrays, prefix: str, kind: type[Any], *but: str) -> Arrays:
    return {name: arrays[prefix + name] for name in _columns(kind, *but)}
