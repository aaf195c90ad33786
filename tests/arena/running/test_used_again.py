"""Matches that a log holds are used again, and those alone that something changed for are played anew."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arena.log import Log, open_log, questions
from arena.log.shard_rows import rows_of, shards_of
from arena.report.summary import progress, read_rows, read_run
from arena.running import runner
from arena.running.comparing import compare
from arena.running.runner import Run
from arena.scenario.files import parse_scenario
from arena.scenario.matches import Match

ATTACK = """
from dataclasses import dataclass
from arena.players import Attacker

@dataclass(frozen=True)
class Shift(Attacker):
    def play(self, games):
        from .steps.sizes import STEP
        for _ in range(3):
            i = games.open
            yield from games.ask(games.project(games.x0[i] + STEP, i), i)
"""
SHIFT = "zz_shifting.attack:Shift"


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Writes an attacker in a package of its own, and sets a constant in the helper that it imports."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    package = tmp_path / "zz_shifting"
    (package / "steps").mkdir(parents=True)
    (package / "attack.py").write_text(ATTACK)

    def forget() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == "zz_shifting"]:
            del sys.modules[name]

    def write(size: float) -> None:
        (package / "steps" / "sizes.py").write_text(f"STEP = {size}\n")
        forget()

    yield write
    forget()


class Counter:
    """The queries that were played, by the match; stops after some shards."""

    def __init__(self, shards: int = 99) -> None:
        self.queries: dict[str, int] = {}
        self.left, self.name = shards, ""

    def match(self, match: Match, games: int) -> None:
        self.name = match.attacker_name
        self.queries.setdefault(self.name, 0)

    def played(self, queries: int) -> None:
        self.queries[self.name] += queries

    def ended(self, games: int, skipped: bool) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def run(*attackers: str, **changes: Any) -> Run:
    table = {
        "games": 4,
        "shard": 2,
        "utility": 0,
        "defenders": ["none"],
        "threat": {"epsilon": 0.01, "budget": 3},
        "attackers": list(attackers),
    }
    return Run(parse_scenario(table | changes, "again", Path.cwd(), "again"), device="cpu")


def play(log: Log, /, *attackers: str, fresh: bool = False, **changes: Any) -> tuple[int, dict[str, int]]:
    """The run, and the queries that were played, by the attacker."""
    counter = Counter()
    run_id, _ = run(*attackers, **changes).play(log, counter, fresh=fresh)
    return run_id, counter.queries


def found(log: Log, run_id: int) -> list[int]:
    return [match.id for match in questions.matches(log, run_id)]


def test_a_helpers_constant_has_its_match_played_anew_and_no_other(
    step: Callable[[float], None], tmp_path: Path
) -> None:
    with open_log(tmp_path / "x.db") as log:
        step(0.004)
        assert play(log, SHIFT, "square") == (1, {SHIFT: 12, "square": 12})
        assert play(log, SHIFT, "square") == (1, {})
        step(0.008)
        assert play(log, SHIFT, "square") == (2, {SHIFT: 12, "square": 0})
        (old, kept), (new, same) = found(log, 1), found(log, 2)
        assert kept == same and new not in (old, kept)
        before, after = (questions.outcomes(log, match) for match in (old, new))
        assert (before.image == after.image).all()
        sizes = (
            "SELECT DISTINCT round(q.linf, 4) FROM finished_queries q"
            " JOIN finished_games g ON g.id = q.game_id WHERE g.match_id = "
        )
        assert questions.sql(log, f"{sizes}{old}").rows == [(0.004,)]
        assert questions.sql(log, f"{sizes}{new}").rows == [(0.008,)]
        step(0.004)
        assert play(log, SHIFT, "square") == (1, {}), "with the old constant the old run is the right one"


def test_an_added_attacker_alone_is_played_and_a_run_shows_all_its_matches(tmp_path: Path) -> None:
    with open_log(tmp_path / "x.db") as log:
        first = play(log, "square", "random-search", utility=60)[0]
        utilities = [row.utility for row in read_rows(log, first)]
        second, queries = play(log, "random-search", "bi-square", "square", utility=60)
        assert queries.keys() == {"random-search", "bi-square", "square"}
        assert {name for name, count in queries.items() if count} == {"bi-square"}
        rows = read_rows(log, second)
        names = ["random-search", "bi-square", "square"]
        assert [(row.match.info.number, row.match.info.attacker) for row in rows] == list(enumerate(names))
        assert [row.played for row in rows] == [4, 4, 4]
        assert [rows[2].utility, rows[0].utility] == utilities
        assert (
            progress(read_run(log, second), rows).finished == progress(read_run(log, second), rows).expected
        )
        third, queries = play(log, "square", utility=0, title="without")
        assert (third, queries, read_rows(log, third)[0].utility) == (3, {"square": 0}, None)
        assert read_rows(log, first)[0].utility == utilities[0] is not None


def test_a_half_finished_match_is_gone_on_with_by_another_run(tmp_path: Path) -> None:
    with open_log(tmp_path / "x.db") as log:
        cut = Counter(shards=1)
        with pytest.raises(KeyboardInterrupt):
            run("square", "random-search").play(log, cut)
        whole = 12
        assert 0 < cut.queries["square"] < whole
        second, queries = play(log, "bi-square", "square")
        assert queries["square"] == whole - cut.queries["square"]
        assert play(log, "square", "random-search") == (1, {"square": 0, "random-search": whole})
        assert found(log, 1)[0] == found(log, second)[1]


def test_fresh_plays_everything_again_as_new_matches(tmp_path: Path) -> None:
    with open_log(tmp_path / "x.db") as log:
        assert play(log, "square", "random-search")[0] == 1
        second, queries = play(log, "square", "random-search", fresh=True)
        assert (second, queries) == (2, {"square": 12, "random-search": 12})
        assert not set(found(log, 1)) & set(found(log, 2))
        own = questions.sql(log, f"SELECT id FROM matches WHERE run_id = {second} ORDER BY number").rows
        assert [row[0] for row in own] == found(log, 2)


def test_other_words_are_taken_up_and_another_log_level_is_not_served(tmp_path: Path) -> None:
    with open_log(tmp_path / "x.db") as log:
        play(log, "square", log="games")
        said = {"verdict": "base", "log": "games", "block": [{"title": "new"}]}
        assert play(log, "square", **said) == (1, {})
        (match,) = questions.matches(log, 1)
        assert (match.info.block, match.info.verdict) == ("new", "base")
        assert play(log, "square", log="queries") == (2, {"square": 12})


def test_a_monitored_match_stands_beside_the_one_without_and_is_the_same_game(tmp_path: Path) -> None:
    sql = (
        "SELECT count(*), count(q.margin_base), sum(q.margin_base <> q.margin) FROM finished_queries q"
        " JOIN finished_games g ON g.id = q.game_id WHERE g.match_id = "
    )
    with open_log(tmp_path / "x.db") as log:
        changes = {"defenders": [{"name": "snd", "sigma": 0.1}], "log": "queries"}
        assert play(log, "square", **changes) == (1, {"square": 12})
        assert play(log, "square", **changes, margin_base=True) == (2, {"square": 12})
        assert play(log, "square", **changes) == (1, {})
        assert play(log, "square", **changes, margin_base=True) == (2, {})
        (plain,), (monitored,) = found(log, 1), found(log, 2)
        (none,), (all_of_them,) = (questions.sql(log, f"{sql}{match}").rows for match in (plain, monitored))
        assert none == (12, 0, None)
        assert all_of_them == (12, 12, 12)
        both = [rows_of(log, shards_of(log, match)[0]) for match in (plain, monitored)]
        comparison = compare(*both)
        assert [(d.table, d.column) for d in comparison.differences] == [("queries", "margin_base")]


def test_a_monitor_has_every_query_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runner.LOGGED_ROWS, "queries", 1)
    assert run("square").level == "changes"
    assert run("square", margin_base=True).level == "queries"
    assert run("square", block=[{"margin_base": True}, {"log": "games"}]).level == "queries"
