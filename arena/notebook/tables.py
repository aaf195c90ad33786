"""Matches as tables: columns by name, and the DataFrames made of them (the extra `tables` brings pandas)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arena.messages import near
from arena.records.match_record import MatchRecord, verdicts_of
from arena.records.reports import GameRows, MarkRows, QueryRows

Columns = dict[str, "NDArray[Any] | list[Any]"]

_OMITTED = ("game", "key", "wrong", "asked", "final", "reason", "target")


def games(record: MatchRecord) -> Columns:
    """One row a game."""
    own = record.games
    return {
        "image": own.key,
        "label": own.label,
        **({"target": own.target} if record.threat.targeted else {}),
        "reason": list(own.reason),
        **{name: getattr(own, name) for name in _names(record, GameRows) if name != "label"},
        "vote": own.vote,
        "wrong": own.wrong.sum(axis=1),
        "asked": own.asked.sum(axis=1),
    }


def marks(record: MatchRecord) -> Columns:
    """One row a game and reported query count."""
    parts = [
        {
            "at": np.full(len(own.game), at),
            "image": record.games.key,
            **{name: getattr(own, name) for name in _names(record, MarkRows) if name != "at"},
            "vote": own.vote,
        }
        for at, own in record.marks.items()
    ]
    return _stacked(parts)


def curve(record: MatchRecord) -> Columns:
    """One row a verdict and reported query count: the accuracy left, with its 95 % interval."""
    counts, verdicts = sorted(record.marks), verdicts_of(record)
    found = [record.accuracy_interval(verdict, at) for verdict in verdicts for at in counts]
    left, low, high = np.array(found, np.float64).reshape(-1, 3).T
    near_by = [record.median_distance(verdict, at) for verdict in verdicts for at in counts]
    return {
        "verdict": [verdict for verdict in verdicts for _ in counts],
        "headline": [verdict == record.headline for verdict in verdicts for _ in counts],
        "queries": np.array(counts * len(verdicts)),
        "accuracy": left,
        "low": low,
        "high": high,
        "median_distance": np.array([median for median, _, _ in near_by]),
    }


def queries(record: MatchRecord) -> Columns:
    """One row a charged query; `margin_base` only where it was asked for."""
    if not record.rows and record.queries.any():
        raise ValueError("no queries were kept: play with keep_rows=True")
    names = [f.name for f in fields(QueryRows) if f.name not in ("purpose", "game", "digest", "margin_base")]
    monitored = bool(record.rows) and record.rows[0].margin_base is not None
    parts = [
        {
            "image": record.games.key[rows.game],
            "purpose": [rows.purpose] * len(rows),
            **{name: getattr(rows, name) for name in (*names, *["margin_base"] * monitored)},
        }
        for rows in record.rows
    ]
    return _stacked(parts)


def match(record: MatchRecord) -> Columns:
    """One row: the match in numbers."""
    asked = record.queries[record.played]
    median = record.median_distance()[0]
    row: dict[str, Any] = {"verdict": record.headline, "games": len(record.games), "played": len(asked)}
    row |= {"clean_accuracy": record.clean_accuracy}
    for verdict in (None, *verdicts_of(record)):
        name = "" if verdict is None else f"_{verdict}"
        left, won = record.accuracy_interval(verdict), record.success(verdict)
        row |= {f"accuracy{name}": left[0], f"accuracy{name}_low": left[1], f"accuracy{name}_high": left[2]}
        row |= {f"success{name}": won[0], f"success{name}_low": won[1], f"success{name}_high": won[2]}
    row |= {
        "queries_mean": asked.mean() if len(asked) else np.nan,
        "queries_median": np.median(asked) if len(asked) else np.nan,
        "median_distance": median,
        "failed": int(record.failed.sum()),
        "first_error": record.first_error,
        "outside": record.outside[0],
    }
    return {name: [value] for name, value in row.items()}


TABLES: Mapping[str, Callable[[MatchRecord], Columns]] = {
    "games": games,
    "marks": marks,
    "curve": curve,
    "queries": queries,
    "match": match,
}


def data_frame(records: Mapping[tuple[str, str], MatchRecord], what: str, named: bool) -> Any:
    """A pandas DataFrame of one of the `TABLES`; of several matches one below the other, each row with the
    names of its attacker and its defender if `named`.

    Raises:
        ValueError: if there is no such table, or no queries were kept for it.
        ImportError: if pandas is not installed.
    """
    if what not in TABLES:
        raise ValueError(f'there is no table "{what}"; {near(str(what), TABLES)}')
    try:
        import pandas
    except ImportError as error:
        text = 'tables need pandas: pip install "blackbox-arena[tables]"'
        raise ImportError(text) from error
    parts = []
    for (attacker, defender), record in records.items():
        columns = TABLES[what](record)
        rows = len(next(iter(columns.values()), []))
        names = {"attacker": [attacker] * rows, "defender": [defender] * rows} if named else {}
        parts.append(pandas.DataFrame({**names, **columns}))
    return parts[0] if len(parts) == 1 else pandas.concat(parts, ignore_index=True)


def _names(record: MatchRecord, kind: type[GameRows] | type[MarkRows]) -> list[str]:
    """The columns that are shown as they are; `again` only where a defender remembers."""
    omitted = _OMITTED if "again" in verdicts_of(record) else (*_OMITTED, "again")
    return [f.name for f in fields(kind) if f.name not in omitted]


def _stacked(parts: Sequence[Mapping[str, Any]]) -> Columns:
    """Equal columns, one below the other."""
    names = parts[0] if parts else ()
    return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in names}
