"""The tables of the log (docs/design.md, D8), for SQLite and PostgreSQL.

A row of `games` is there only once its shard is finished; rows of `queries`, `marks` and `notes` come
earlier. Questions therefore ask the views `finished_games`, `finished_queries`, `finished_marks` and
`finished_notes`, which show finished shards only.

A match is played once, and used again by every later run that wants the same one: `matches.run_id` is the run
that first played it. Which matches a run consists of, and how its scenario shows them, stands in `entries`:

    SELECT e.number, e.attacker_title, e.defender_title, avg(g.vote) FROM entries e
        JOIN finished_games g ON g.match_id = e.match_id
        WHERE e.run_id = 2 AND g.reason <> 'clean' GROUP BY e.run_id, e.number
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    TableClause,
    Text,
    UniqueConstraint,
    column,
    table,
)

PLAYING, FINISHED = "playing", "finished"
VOTES = ("wrong_a", "asked_a", "wrong_b", "asked_b")
"""How many of a vote's fresh answers were wrong, and how many were asked for, in two fixed halves. NULL in
rows of layouts before 0005."""

COURSES = ("margin_first", "margin_late", "margin_best", "distance_first", "distance_late")
"""How a game went (`records.reports.CourseRows`). They and `flagged`, `alarm_at` and `duplicates` are NULL in
rows of layouts before 0007, and where nothing is known."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

Id = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by itself in a column of type INTEGER only, which holds 64 bits there."""


def _column(name: str, kind: Any, *rest: Any, null: bool = False, **options: Any) -> Column[Any]:
    return Column(name, kind, *rest, nullable=null, **options)


runs = Table(
    "runs",
    metadata,
    _column("id", Id, primary_key=True),
    _column("scenario", Text),
    _column("title", Text),
    _column("seed", BigInteger),
    _column("versions", JSON),
    _column("device", Text),
    _column("started", DateTime),
    _column("ended", DateTime, null=True),
    _column("fingerprint", Text, index=True),
    _column("batch", Integer, null=True),
    _column("level", Text),
    _column("resolved", JSON),
)

matches = Table(
    "matches",
    metadata,
    _column("id", Id, primary_key=True),
    _column("run_id", Id, ForeignKey("runs.id")),
    _column("attacker", Text),
    _column("attacker_params", JSON),
    _column("defender", Text),
    _column("defender_params", JSON),
    _column("classifier", Text),
    _column("classifier_sha", Text),
    _column("dataset", Text),
    _column("dataset_sha", Text),
    _column("threat", JSON),
    _column("knowledge", Text),
    _column("number", Integer),
    _column("fingerprint", Text, index=True),
    _column("block", Text),
    _column("title", Text),
    _column("attacker_title", Text),
    _column("defender_title", Text),
    _column("verdict", Text),
    _column("at", JSON),
    _column("repeats", Integer),
    _column("classes", Integer),
    _column("image_shape", JSON),
    _column("facts", JSON),
    _column("radii", JSON, null=True),
    _column("answers_are_facts", Boolean, null=True),
    UniqueConstraint("run_id", "number"),
)
"""Titles, `number`, `verdict` and `radii` are those of the run that first played the match. Layouts before
0005 did not tell whether answers are facts: there it is read off the verdicts."""

entries = Table(
    "entries",
    metadata,
    _column("run_id", Id, ForeignKey("runs.id"), primary_key=True, autoincrement=False),
    _column("number", Integer, primary_key=True, autoincrement=False),
    _column("match_id", Id, ForeignKey("matches.id"), index=True),
    _column("block", Text),
    _column("title", Text),
    _column("attacker_title", Text),
    _column("defender_title", Text),
    _column("verdict", Text),
    _column("radii", JSON),
    _column("utility", Integer),
    _column("benign", JSON(none_as_null=True), null=True),
)
"""The matches of a run, by their places in its scenario, as this shows them. `utility`: on how many clean
images the run wants the defended classifier evaluated, 0 for not at all. `benign`: the traffic that it wants
played against it (an `evaluation.benign.plan.Traffic`), NULL for none and in layouts before 0012."""

shards = Table(
    "shards",
    metadata,
    _column("id", Id, primary_key=True),
    _column("match_id", Id, ForeignKey("matches.id")),
    _column("number", Integer),
    _column("repeat", Integer),
    _column("state", Text),
    _column("fingerprint", Text),
    _column("first_game", BigInteger, index=True),
    _column("games", Integer),
    _column("level", Text),
    _column("started", DateTime),
    _column("ended", DateTime, null=True),
    _column("process", BigInteger, null=True),
    UniqueConstraint("match_id", "number", "repeat"),
    sqlite_autoincrement=True,
)
"""`process`: of a shard that is in play, the id in `processes` of who plays it."""

processes = Table(
    "processes",
    metadata,
    _column("id", BigInteger, primary_key=True, autoincrement=False),
    _column("host", Text),
    _column("pid", Integer),
)
"""Those that are playing into the log, and those that died while they did, until somebody notices
(`arena.log.processes`)."""

games = Table(
    "games",
    metadata,
    _column("id", Id, primary_key=True, autoincrement=False),
    _column("match_id", Id, ForeignKey("matches.id")),
    _column("shard", Integer),
    _column("repeat", Integer),
    _column("image", BigInteger),
    _column("label", Integer),
    _column("target", Integer, null=True),
    _column("reason", Text),
    _column("queries", BigInteger),
    _column("insider_queries", BigInteger),
    _column("refused", BigInteger),
    _column("answered", Boolean),
    _column("vote", Double),
    _column("base", Boolean),
    _column("hit_at", Integer, null=True),
    _column("accepted_at", Integer, null=True),
    _column("l2", Double, null=True),
    _column("linf", Double, null=True),
    _column("final", LargeBinary),
    *(_column(name, Integer, null=True) for name in VOTES),
    _column("again", Boolean, null=True),
    *(_column(name, BigInteger, null=True) for name in ("flagged", "alarm_at", "duplicates")),
    *(_column(name, Double, null=True) for name in COURSES),
)

_PLACE = ("match_id", "repeat", "shard")
_BUT_FINAL = (*_PLACE, "id", *(c.name for c in games.c if c.name not in (*_PLACE, "id", "final")))
INDEX_OF = {"postgresql": "ix_games_match_id_repeat_shard", "sqlite": "ix_games_but_final"}
"""SQLite would go through the pages of each final image to the columns after it; PostgreSQL keeps large
values apart, and holds no more than 32 columns in an index."""
for _dialect, _columns in (("postgresql", _PLACE), ("sqlite", _BUT_FINAL)):
    Index(INDEX_OF[_dialect], *(games.c[name] for name in _columns)).ddl_if(dialect=_dialect)

marks = Table(
    "marks",
    metadata,
    _column("game_id", BigInteger, primary_key=True, autoincrement=False),
    _column("at", Integer, primary_key=True, autoincrement=False),
    _column("turn", Integer),
    _column("answered", Boolean),
    _column("vote", Double),
    _column("base", Boolean),
    _column("l2", Double, null=True),
    _column("linf", Double, null=True),
    *(_column(name, Integer, null=True) for name in VOTES),
    _column("again", Boolean, null=True),
    _column("query_l2", Double, null=True),
    sqlite_with_rowid=False,
)
"""`query_l2` is NULL in rows of layouts before 0010, and where a game had no query."""

queries = Table(
    "queries",
    metadata,
    _column("game_id", BigInteger, primary_key=True, autoincrement=False),
    _column("turn", Integer, primary_key=True, autoincrement=False),
    _column("account", Integer),
    _column("purpose", Text),
    _column("label", Integer),
    _column("refused", Boolean),
    _column("flagged", Boolean),
    _column("margin", Double, null=True),
    _column("l2", Double, null=True),
    _column("linf", Double, null=True),
    _column("hit", Boolean),
    _column("margin_base", Double, null=True),
    sqlite_with_rowid=False,
)
"""`margin_base`: the margin of the hardened classifier alone, NULL where the match has no monitor, and in
layouts before 0009."""

notes = Table(
    "notes",
    metadata,
    _column("game_id", BigInteger, primary_key=True, autoincrement=False),
    _column("place", Integer, primary_key=True, autoincrement=False),
    _column("turn", Integer),
    _column("key", Text),
    _column("value", Text),
    _column("number", Double, null=True),
    sqlite_with_rowid=False,
)

utilities = Table(
    "utilities",
    metadata,
    _column("match_id", Id, ForeignKey("matches.id"), primary_key=True, autoincrement=False),
    _column("images", Integer, primary_key=True, autoincrement=False),
    *(_column(name, Double) for name in ("accuracy", "low", "high", "declined", "refused", "agreement")),
    *(_column(name, Double, null=True) for name in ("ece", "ece_mass", "nll")),
    _column("batch", Integer, null=True),
    *(_column(name, Double, null=True) for name in ("cost_1", "cost_1_low", "cost_1_high")),
    *(_column(name, Double, null=True) for name in ("cost_batch", "cost_batch_low", "cost_batch_high")),
    *(_column(name, Double, null=True) for name in ("seconds_1", "seconds_batch")),
    _column("peak_bytes", BigInteger, null=True),
    *(_column(name, Double, null=True) for name in ("flagged", "input_l2", "multiply_adds")),
    _column("reliability", JSON(none_as_null=True), null=True),
)
"""What a match's defended classifier is worth on so many clean images (a `Utility`): the same row for
all matches of a world and a stack. From `cost_1` to `peak_bytes` they are measured times and memory, which no
two runs share. Layouts before 0003 do not tell `flagged`, those before 0010 neither `input_l2` nor
`multiply_adds`, those before 0011 not `reliability`."""

benign = Table(
    "benign",
    metadata,
    _column("match_id", Id, ForeignKey("matches.id"), primary_key=True, autoincrement=False),
    _column("client", Text, primary_key=True),
    _column("history", Text, primary_key=True),
    _column("sessions", Integer, primary_key=True, autoincrement=False),
    _column("draws", Integer, primary_key=True, autoincrement=False),
    *(_column(name, BigInteger) for name in ("queries", "refused", "flagged", "banned", "declined")),
    _column("altered", Double),
    *(_column(f"sessions_{name}", Integer) for name in ("refused", "flagged", "banned", "altered", "lost")),
    *(_column(name, Double, null=True) for name in ("delay", "delay_low", "delay_high")),
)
"""What so many clients of a kind lost to a match's defended classifier, after a history (a `BenignLoss`): the
same rows for all matches of a world and a stack. The delays are measured times, which no two runs share."""

purposes = Table(
    "purposes",
    metadata,
    _column("shard_id", Id, primary_key=True, autoincrement=False),
    _column("purpose", Text, primary_key=True),
    _column("queries", BigInteger),
    _column("refused", BigInteger),
    _column("flagged", BigInteger),
    _column("hits", BigInteger, null=True),
    _column("outside", BigInteger, null=True),
    sqlite_with_rowid=False,
)
"""How many queries a finished shard charged for each purpose, how many of them were refused, flagged, hits,
and answered with a winning label outside the ball: at every log level. The last two are NULL for shards of
layouts before 0005."""

VIEWS = {
    "finished_games": (
        "SELECT games.* FROM games"
        " JOIN shards ON shards.match_id = games.match_id"
        " AND shards.number = games.shard AND shards.repeat = games.repeat AND shards.state = 'finished'"
    ),
    **{
        f"finished_{table}": (
            f"SELECT {table}.* FROM {table} JOIN finished_games ON finished_games.id = {table}.game_id"
        )
        for table in ("marks", "queries", "notes")
    },
}
"""The views by name, in the order in which they are created. PostgreSQL fixes a view's columns when it is
created: a migration that changes a table must create its views again."""


def of_dialect(name: str) -> Callable[..., bool]:
    """An `include_object` of Alembic that leaves out what only other kinds of database have."""

    others = {index for dialect, index in INDEX_OF.items() if dialect != name}
    return lambda found, called, *_: called not in others


def _view(shown: Table) -> TableClause:
    return table(f"finished_{shown.name}", *(column(c.name, c.type) for c in shown.columns))


finished_games, finished_marks, finished_queries, finished_notes = map(_view, (games, marks, queries, notes))


def to_json(value: Any) -> str:
    """JSON with sorted keys, so that the same content is the same text; numbers that JSON does not have
    become text."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False)


def storable(text: str) -> str:
    """Text that every database takes: without NUL and lone surrogates."""
    return str(text).replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def storable_row(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row, with texts that every database takes."""
    return {name: storable(value) if isinstance(value, str) else value for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return storable(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return storable(str(value))
