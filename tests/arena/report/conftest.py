"""Logs written by hand, game by game, and one that was played."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arena.evaluation.clean_utility import Utility
from arena.log import Log, open_log
from arena.records.pieces import LogLevel, Pieces
from arena.records.reports import GameRows, MarkRows, NoteRows, QueryRows
from arena.records.runs import MatchInfo, RunInfo
from arena.report.html import render
from arena.rules.threat import Threat
from arena.running.runner import Run
from arena.scenario.files import parse_scenario

SHAPE = (1, 4, 4)
RUN = RunInfo(
    scenario="hand", title="By hand", seed=7, versions={"arena": "1.2"}, device="cpu", fingerprint="f"
)
MATCH = MatchInfo(
    number=0,
    fingerprint="m",
    attacker="square",
    attacker_params={"p": 0.3},
    defender="none",
    defender_params={"defenders": [{"name": "none"}]},
    classifier="net",
    classifier_sha="c",
    dataset="digits",
    dataset_sha="d",
    threat=Threat(norm="l2", epsilon=1.5, budget=10),
    classes=10,
    image_shape=SHAPE,
    at=(5, 10),
    utility=1000,
)


UTILITY = Utility(
    images=1000,
    accuracy=0.9,
    low=0.88,
    high=0.917,
    declined=0.011,
    refused=0.022,
    agreement=0.975,
    ece=0.0123,
    ece_mass=0.0234,
    nll=0.25,
    batch=64,
    cost_1=1.25,
    cost_1_low=1.1,
    cost_1_high=1.4,
    cost_batch=12.5,
    cost_batch_low=11.1,
    cost_batch_high=13.3,
    seconds_1=0.0042,
    seconds_batch=0.00031,
    peak_bytes=5_500_000,
    flagged=0.0333,
    input_l2=0.55,
    multiply_adds=40.6e6,
)


@dataclass(frozen=True)
class Game:
    """A game: how it ended, and the votes on the images that stood at 0, at 5 and at the end."""

    image: int
    reason: str = "budget"
    queries: int = 10
    hit_at: int = 0
    accepted_at: int = 0
    votes: tuple[float, float, float] = (0.0, 0.0, 0.0)
    base: bool = False
    l2: float = np.nan
    label: int = 3
    target: int = -1
    refused: int = 0
    insider: int = 0
    error: str = ""
    answer: int = 8
    again: float = np.nan
    asked_l2: float = np.nan
    """The l2 distance of the query at 5; of that at 10 a tenth more."""
    valid_share: tuple[float, ...] = ()
    """Numbers that the attacker noted."""


class Hand:
    """Writes runs, matches and shards into a log."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.matches = 0

    def run(self, ended: bool = True, **changes: Any) -> int:
        run_id = self.log.begin_run(replace(RUN, **changes))
        if ended:
            self.log.end_run(run_id)
        return run_id

    def match(
        self,
        run_id: int,
        *games: Game,
        queries: Sequence[QueryRows] = (),
        level: LogLevel = "queries",
        **changes: Any,
    ) -> int:
        self.matches += 1
        match_id = self.log.begin_match(run_id, replace(MATCH, fingerprint=f"m{self.matches}", **changes))
        if games:
            self.shard(match_id, games, queries=queries, level=level)
        return match_id

    def utility(self, **changes: Any) -> Utility:
        """One with a different number in every column of a report."""
        return replace(UTILITY, **changes)

    def shard(
        self,
        match_id: int,
        games: Sequence[Game],
        number: int = 0,
        repeat: int = 0,
        queries: Sequence[QueryRows] = (),
        level: LogLevel = "queries",
    ) -> None:
        place = np.arange(len(games))

        def column(name: str) -> Any:
            return np.array([getattr(game, name) for game in games])

        hit_at, l2 = column("hit_at"), column("l2")
        with self.log.shard(match_id, number, repeat, "s", column("image"), level) as recorder:
            shard = Pieces(recorder)
            for i, at in enumerate((0, 5, 10)):
                answered = (hit_at > 0) & (hit_at <= at)
                votes = _votes([game.votes[i] for game in games], column("again") if at else None)
                base = column("base") & ((at == 10) | answered)
                far = np.where(answered, l2, np.nan)
                asked = column("asked_l2") * (1 + (at == 10) / 10) if at else np.full(len(games), np.nan)
                turn = np.minimum(hit_at, at)
                shard.marks(MarkRows(at, place, turn, answered, *votes, base, far, far, asked))
            for rows in queries or (_hits(games),):
                shard.queries(rows)
            failed = [game for game in games if game.error]
            at = np.flatnonzero([bool(game.error) for game in games])
            shard.notes(NoteRows("error", at, np.zeros(len(at), np.int64), [game.error for game in failed]))
            for i, shares in enumerate(list(game.valid_share) for game in games):
                at = np.full(len(shares), i)
                shard.notes(NoteRows("valid-share", at, at, shares))
            shard.games(
                GameRows(
                    game=place,
                    key=column("image"),
                    label=column("label"),
                    target=column("target"),
                    reason=[game.reason for game in games],  # type: ignore[misc]
                    queries=column("queries"),
                    insider_queries=column("insider"),
                    refused=column("refused"),
                    answered=hit_at > 0,
                    **dict(
                        zip(
                            ("wrong", "asked", "again"),
                            _votes([game.votes[2] for game in games], column("again")),
                            strict=True,
                        )
                    ),
                    base=column("base"),
                    hit_at=hit_at,
                    accepted_at=column("accepted_at"),
                    l2=l2,
                    linf=l2 / 2,
                    final=np.full((len(games), *SHAPE), 0.25, np.float32),
                )
            )
            shard.close()


def _votes(shares: Sequence[float], again: Any = None) -> tuple[Any, Any, Any]:
    """The wrong ones of 100 fresh answers in halves, their numbers, and the answers to who asked again."""
    wrong = np.array([[round(50 * share), round(100 * share) - round(50 * share)] for share in shares])
    return wrong, np.full_like(wrong, 50), np.full(len(shares), np.nan) if again is None else again


def _hits(games: Sequence[Game]) -> QueryRows:
    """The hits alone, as the level `changes` may leave them."""
    won = [(place, game) for place, game in enumerate(games) if game.hit_at]
    l2 = np.array([game.l2 for _, game in won], np.float64)
    none = np.zeros(len(won), np.bool_)
    return QueryRows(
        purpose="query",
        game=np.array([place for place, _ in won], np.int64),
        turn=np.array([game.hit_at for _, game in won], np.int64),
        account=np.zeros(len(won), np.int64),
        label=np.array([game.answer for _, game in won], np.int64),
        refused=none,
        flagged=none,
        margin=-np.ones(len(won)),
        l2=l2,
        linf=l2 / 2,
        hit=~none,
        outside=none,
        better=~none,
    )


@pytest.fixture
def game() -> type[Game]:
    return Game


@pytest.fixture
def info() -> MatchInfo:
    return MATCH


@pytest.fixture
def threat() -> Threat:
    return MATCH.threat


@pytest.fixture
def asked() -> Callable[..., QueryRows]:
    """Queries of one game, with a purpose, some of them flagged, or answered wrongly outside the ball."""

    def asked(purpose: str, queries: int, flagged: int, first: int = 1, outside: int = 0) -> QueryRows:
        none = np.zeros(queries, np.bool_)
        return QueryRows(
            purpose=purpose,
            game=np.zeros(queries, np.int64),
            turn=np.arange(first, first + queries),
            account=np.zeros(queries, np.int64),
            label=np.zeros(queries, np.int64),
            refused=none,
            flagged=np.arange(queries) < flagged,
            margin=np.ones(queries),
            l2=np.ones(queries),
            linf=np.ones(queries),
            hit=none,
            outside=np.arange(queries) < outside,
            better=none,
        )

    return asked


@pytest.fixture(scope="session")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of four attackers with long names against five defenders, one of them random, under objective
    `first`."""
    with open_log(tmp_path_factory.mktemp("crowded") / "crowded.db") as log:
        hand = Hand(log)
        run = hand.run(title="A title that is long enough to be broken on a phone")
        for number in range(20):
            a, d = divmod(number, 5)
            won = [Game(i, "hit", 3, hit_at=3, votes=(0, 0.4, 0.4), base=True, l2=1) for i in range(a + d)]
            lucky = {"verdict": "vote", "answers_are_facts": False} if d == 1 else {}
            name = {"attacker": f"an-attacker-with-a-long-name-{a}", "defender": f"defender-{d}"}
            titles = {f"{side}_title": title for side, title in name.items()}
            match = hand.match(
                run, *won, *(Game(10 + i) for i in range(5)), number=number, **name, **titles, **lucky
            )
            log.record_utility(match, hand.utility(ece=0.01 * (d + 1)))
        return render(log, run)


@pytest.fixture
def hand(tmp_path: Path) -> Iterator[Hand]:
    with open_log(tmp_path / "hand.db") as log:
        yield Hand(log)


class _Deaf:
    def match(self, *_: Any) -> None: ...
    def played(self, *_: Any) -> None: ...
    def ended(self, *_: Any) -> None: ...


@pytest.fixture(scope="session")
def play(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Plays a small scenario on digits; the log's path. The same words give the same log."""
    known: dict[str, Path] = {}

    def play(**changes: Any) -> Path:
        key = repr(sorted(changes.items()))
        if key not in known:
            table = {
                "games": 6,
                "at": [5, 10],
                "threat": {"epsilon": 0.3, "budget": 30},
                "attackers": [{"name": "square", "p": 0.3}],
                "defenders": ["none", {"name": "snd", "sigma": 0.05}],
                "title": "Played",
                **changes,
            }
            path = tmp_path_factory.mktemp("played") / "played.db"
            scenario = parse_scenario(table, "played", Path.cwd(), "played")
            with open_log(path) as log:
                Run(scenario, device="cpu").play(log, _Deaf())
            known[key] = path
        return known[key]

    return play
