"""Whole plays, recorded: whoever changes what a fixed attacker hears or what is reported must mean to.

    UPDATE_GOLDEN=1 python -m pytest tests/arena/test_golden.py    # record anew, then read the difference

Images lie on sixteenths, draws are integers and uniforms, logits are exact: the transcripts are the same on
every machine, but for the last bits of l2.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from arena.game.shard import play_games
from arena.players import Games, Play
from arena.records.reports import MemoryListener
from arena.rules.threat import Threat

FOLDER = Path(__file__).parent / "golden"
QUERIES = (
    "purpose",
    "game",
    "turn",
    "account",
    "label",
    "refused",
    "flagged",
    "margin",
    "linf",
    "hit",
    "better",
)
MARKS = ("turn", "answered", "vote", "base", "linf")
ENDS = ("key", "label", "target", "reason", "queries", "insider_queries", "refused", "answered")
VERDICTS = ("vote", "base", "hit_at", "accepted_at", "linf")


def walk(games: Games) -> Play:
    """Random steps of a sixteenth, two candidates a volley, by the loss or else by label and distance."""
    x = games.x0.clone()
    best = torch.full((len(games),), torch.inf)
    shape = x.shape[1:]
    while len(i := games.open):
        step = games.integers(3, (2, *shape), i) - 1
        twice = i.repeat_interleave(2)
        candidates = games.project((x[i].unsqueeze(1) + step / 16).flatten(0, 1), twice)
        account = games.integers(games.threat.accounts, (2,), i).flatten()
        answers = yield from games.ask(candidates, twice, "step", account)
        if answers.scores is None:
            loss = torch.where(games.wrong(answers), games.distance(candidates, twice) - 1, torch.inf)
        else:
            loss = games.loss(answers)
        value, which = loss.view(-1, 2).min(dim=1)
        better = value < best[i]
        moved = i[better]
        x[moved], best[moved] = candidates.view(-1, 2, *shape)[better, which[better]], value[better]
        yield from games.note("accepted", 1.0, i[games.wrong(answers).view(-1, 2)[:, 1]])
        enough = games.open[games.left[games.open] < games.threat.budget // 3]
        if games.threat.objective == "submit":
            yield from games.submit(x[enough], enough)


PLAYS: dict[str, dict[str, Any]] = {
    "first-logits": {"threat": Threat(epsilon=3 / 16, budget=24)},
    "submit-probabilities-defended": {
        "threat": Threat(epsilon=4 / 16, budget=24, feedback="probabilities", objective="submit", accounts=2),
        "stack": ("flip", "account"),
    },
    "minimum-label-targeted": {
        "threat": Threat(epsilon=math.inf, budget=40, feedback="label", objective="minimum", goal="targeted"),
        "stack": ("flip",),
        "target": [1, 0, 2, 0],
    },
}


def transcript(
    worlds: ModuleType, threat: Threat, stack: tuple[str, ...] = (), target: Any = None
) -> dict[str, Any]:
    defenders = {"flip": worlds.Flip(0.125), "account": worlds.warden("account")}
    x0 = worlds.images([(8, 6, 4, 8), (6, 8, 6, 4), (9, 8, 10, 6), (5, 7, 5, 5)])
    label = worlds.truth(x0, worlds.classifier())
    label[3] = (label[3] + 1) % 3
    referee, record = worlds.referee(
        [defenders[name] for name in stack],
        threat=threat,
        x0=x0,
        label=label,
        target=target,
        key=[3, 14, 15, 92],
        at=[4, 11],
        votes=5,
        seed=1,
    )
    rows = play_games(worlds.Scripted(walk), referee, referee.seat(seed=4))
    ends = {name: list(map(plain, getattr(rows, name))) for name in ENDS + VERDICTS}
    return {
        "queries": [[plain(row[name]) for name in QUERIES] for row in worlds.log_of(record)],
        "l2": [row["l2"] for row in worlds.log_of(record)],
        "marks": [
            [game, at, *(plain(mark[name]) for name in MARKS)]
            for (game, at), mark in worlds.marks_of(record).items()
        ],
        "notes": notes(record),
        "games": ends | {"final": (rows.final * 16).reshape(len(rows), -1).tolist()},
    }


def notes(record: MemoryListener) -> list[list[Any]]:
    return [
        [note.key, game, turn, value]
        for note in record.note_rows
        for game, turn, value in zip(note.game.tolist(), note.turn.tolist(), note.value, strict=True)
    ]


def plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value


@pytest.mark.parametrize("name", PLAYS)
def test_play_is_the_one_recorded(worlds: ModuleType, name: str) -> None:
    found = transcript(worlds, **PLAYS[name])
    path = FOLDER / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(written(found))
    recorded = json.loads(path.read_text())
    assert found.pop("l2") == pytest.approx(recorded.pop("l2"), rel=1e-6)
    for part in recorded:
        assert found[part] == recorded[part], part


def written(found: dict[str, Any]) -> str:
    """JSON with a row a line, so that a difference can be read."""
    parts = []
    for part, rows in found.items():
        lines = rows.items() if isinstance(rows, dict) else enumerate(rows)
        said = [
            (f"{json.dumps(k)}: " if isinstance(rows, dict) else "") + json.dumps(row) for k, row in lines
        ]
        opening, closing = "{}" if isinstance(rows, dict) else "[]"
        parts.append(f"{json.dumps(part)}: {opening}\n" + ",\n".join(said) + f"\n{closing}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def test_the_recorded_plays_are_worth_recording() -> None:
    """Between them they hold every kind of end and answer that such plays can have."""
    recorded = [json.loads((FOLDER / f"{name}.json").read_text()) for name in PLAYS]
    reasons = {reason for play in recorded for reason in play["games"]["reason"]}
    assert reasons == {"hit", "submitted", "budget", "clean", "banned"}
    rows = [dict(zip(QUERIES, row, strict=True)) for play in recorded for row in play["queries"]]
    for name in ("refused", "flagged", "hit", "better"):
        assert {row[name] for row in rows} == {True, False}, name
    assert {-1, 0, 1, 2} == {row["label"] for row in rows}
    assert any(0 < vote < 1 for play in recorded for vote in play["games"]["vote"])
    assert any(play["notes"] for play in recorded)
    assert any(turn for play in recorded for turn in play["games"]["accepted_at"])
