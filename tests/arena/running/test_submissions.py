"""An honest submission is confirmed; planted frauds, strange files and foreign code are not."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from arena.cli.app import app
from arena.log import open_log
from arena.running import submissions
from arena.running.comparing import ShareCheck
from arena.running.runner import Run
from arena.running.submission_files import SubmissionError
from arena.running.submissions import SubmissionReport, check_submission
from arena.scenario.files import load_scenario

SCENARIO = """
title = "Submitted"
games = 6
shard = 4
utility = 30
at = [5]
attackers = [{ name = "square", p = 0.3 }]
defenders = ["none", { name = "snd", sigma = 0.1 }]
threat = { epsilon = 0.2, budget = 20, objective = "submit" }
"""
CARD = f"""
agent = "snd"
paper = "Byun et al., Small input noise, 2022"
code = "{"0123456789" * 4}"
"""


@pytest.fixture(scope="module")
def honest(replays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("submissions") / "honest"
    folder.mkdir()
    (folder / "submitted.toml").write_text(SCENARIO)
    (folder / "card.toml").write_text(CARD)
    with open_log(folder / "log.db") as log:
        Run(load_scenario(folder / "submitted.toml"), device="cpu").play(log, replays.Silent())
    return folder


def copied(honest: Path, to: Path, *statements: str, card: str = CARD, scenario: str = SCENARIO) -> Path:
    """A submission with another log, card or scenario."""
    folder = to / "submission"
    shutil.copytree(honest, folder)
    (folder / "card.toml").write_text(card)
    (folder / "submitted.toml").write_text(scenario)
    with closing(sqlite3.connect(folder / "log.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return folder


def checked(folder: Path, **options) -> SubmissionReport:
    return check_submission(folder, **{"sample": 9, "seed": 0, **options})


def test_an_honest_submission_is_confirmed(honest: Path) -> None:
    heard = []
    report = checked(honest, sample=2, hear=heard.append)
    assert report.status == "bit for bit" and report.faults == report.unchecked == ()
    assert report.summary == f"2 of {report.shards} shards replayed: 2 equal bit for bit"
    assert report.matches == 2 and report.shards >= 4 and report.utilities >= 1
    assert heard == list(report.outcomes) and report.chance_missed == 1 - 2 / report.shards
    assert report.card is not None and report.card.agent == "snd"


def test_the_seed_alone_decides_what_is_drawn(honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = []

    def remembered(replayer, agreement, shard):
        played.append(shard.id)
        return submissions.ShardOutcome("", 1, 0, 0, "not checked", "")

    monkeypatch.setattr(submissions, "_outcome", remembered)
    monkeypatch.setattr(submissions, "_check_rest", lambda *_: 0)
    draws = {}
    for seed in (1, 1, 2, 3, 4, 5):
        played.clear()
        checked(honest, sample=2, seed=seed)
        assert draws.setdefault(seed, list(played)) == played
    assert len({tuple(drawn) for drawn in draws.values()}) > 1
    assert checked(honest, sample=1, seed=None).seed != checked(honest, sample=1, seed=None).seed


LAST = "(SELECT max(id) FROM games)"
FRAUDS = {
    "a verdict flipped": (
        (f"UPDATE games SET answered = 1 - answered, vote = 1 - vote WHERE id = {LAST}",),
        "games.answered",
    ),
    "queries removed": (
        (f"DELETE FROM queries WHERE game_id = {LAST} AND turn > 3",),
        "the logged queries are not as many as were charged",
    ),
    "fewer queries claimed throughout": (
        (
            f"DELETE FROM queries WHERE game_id = {LAST} AND turn = 1",
            f"UPDATE games SET queries = queries - 1 WHERE id = {LAST}",
        ),
        "its purposes count",
    ),
    "the utility changed": (
        ("UPDATE utilities SET accuracy = 0.999, high = 1",),
        "accuracy on clean images is 0.999 in the log",
    ),
    "the bins changed": (
        ("UPDATE utilities SET reliability = replace(reliability, '[', '[0.5, ')",),
        "reliability on clean images is in its bins not the same in the log and here",
    ),
    "another parameter claimed": (
        ("UPDATE runs SET resolved = replace(resolved, '\"sigma\": 0.1', '\"sigma\": 0.2')",),
        "is not in the scenario: what differs there is defenders",
    ),
    "another name shown": (
        ("UPDATE matches SET attacker = 'bi-square' WHERE id = 1",),
        "the log's attacker is not the scenario's",
    ),
    "another title shown": (
        ("UPDATE entries SET defender_title = 'mine' WHERE match_id = 2",),
        "the log's defender_title is not the scenario's",
    ),
    "random answers called facts": (
        ("UPDATE matches SET answers_are_facts = 1",),
        "wrong on whether its answers are facts",
    ),
    "a budget shown that was not played": (
        ("UPDATE matches SET threat = replace(threat, '\"budget\": 20', '\"budget\": 2000')",),
        "the log's threat is not the scenario's",
    ),
    "easier images": (
        (f"UPDATE games SET image = image + 1 WHERE id = {LAST}",),
        "has other games than are drawn for it",
    ),
    "a shard unfinished": (
        ("UPDATE shards SET state = 'playing' WHERE id = (SELECT max(id) FROM shards)",),
        "1 shards were begun and not finished",
    ),
    "a shard left out": (
        (
            "DELETE FROM games WHERE shard = 0 AND match_id = 2",
            "DELETE FROM shards WHERE number = 0 AND match_id = 2",
        ),
        "shards are not finished",
    ),
    "a run that has not ended": (("UPDATE runs SET ended = NULL",), "run 1 of the log has not ended"),
    "a match left out": (
        ("DELETE FROM entries WHERE match_id = 2", "DELETE FROM matches WHERE id = 2"),
        "the log does not hold the scenario's match square vs snd",
    ),
    "a match beside the run": (
        ("DELETE FROM entries WHERE match_id = 2",),
        "the log holds 1 matches of no run",
    ),
}


@pytest.mark.parametrize("name", FRAUDS)
def test_a_fraud_is_found(honest: Path, tmp_path: Path, name: str) -> None:
    statements, says = FRAUDS[name]
    report = checked(copied(honest, tmp_path, *statements))
    assert report.status == "failed"
    said = [*report.faults, *(one.said for one in report.outcomes if one.status == "failed")]
    assert any(says in sentence for sentence in said), said


def test_a_fraud_outside_of_the_sample_is_only_missed_as_often_as_is_said(
    honest: Path, tmp_path: Path
) -> None:
    folder = copied(honest, tmp_path, f"UPDATE games SET vote = 1 - vote WHERE id = {LAST}")
    reports = [checked(folder, sample=1, seed=seed) for seed in range(5)]
    assert {report.status for report in reports} == {"failed", "bit for bit"}
    assert all("1 of" in report.summary and report.chance_missed > 0.5 for report in reports)


def test_a_scenario_that_is_another(honest: Path, tmp_path: Path) -> None:
    report = checked(copied(honest, tmp_path, scenario=SCENARIO.replace("budget = 20", "budget = 30")))
    assert report.status == "failed" and report.outcomes == ()
    assert "what differs there is at, threat" in report.faults[0]


CARDS = {
    "code: this key is missing; it is the SHA": "agent = 'snd'\npaper = 'p'",
    "code: found 'main'; it must be the code's SHA in full": CARD.replace("0123456789" * 4, "main"),
    'agent: "nobody" plays in no match': CARD.replace("snd", "nobody"),
    "contact: cards are published, contacts are left out": CARD + "contact = 'x'",
    "found an e-mail address": CARD.replace("Byun et al.", "byun@example.org"),
    "licence: there is no such key; did you mean": CARD + "licence = 'x'",
    "versions: torch is 0.1 there": CARD + "versions = { torch = '0.1' }",
    "card.toml is not valid TOML": "agent = ",
}


@pytest.mark.parametrize("says", CARDS)
def test_faults_of_a_card(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    monkeypatch.setattr(submissions, "_check_rest", lambda *_: 0)
    report = checked(copied(honest, tmp_path, card=CARDS[says]), sample=1)
    assert report.status == "failed"
    assert len(report.faults) == 1 and says.partition("; did")[0] in report.faults[0], report.faults


def test_another_version_is_within_tolerance_and_says_so(honest: Path, tmp_path: Path) -> None:
    other = 'UPDATE runs SET resolved = replace(resolved, \'"numpy": "\', \'"numpy": "1.\')'
    report = checked(copied(honest, tmp_path, other, "UPDATE matches SET fingerprint = 'another'"))
    assert report.status == "within tolerance" and report.faults == ()
    assert "within tolerance, on another machine or version" in report.summary
    assert report.outcomes[0].said.startswith("not the same here: numpy: 1.")
    assert [share.verdict for share in report.pooled] == ["answered", "vote", "base"]
    worse = replace(report, pooled=(ShareCheck("vote", 40, 0.1, 0.5, 0, 16),))
    assert worse.status == "failed"


def test_what_cannot_be_played_is_not_checked(honest: Path, tmp_path: Path, monkeypatch) -> None:
    def gone(*_):
        raise FileNotFoundError("no weights here")

    monkeypatch.setattr("arena.running.replaying.LoadedWorlds.of", gone)
    report = checked(honest)
    assert report.status == "not checked" and "not playable here" in report.summary
    assert report.outcomes[0].said == "no weights here" == report.unchecked[0]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (('"none",', '"evil:Agent",'), 'names the agent "evil:Agent"; that is the submitter\'s code'),
        (('{ name = "square", p = 0.3 }', '{ name = "eot", of = "evil:A" }'), 'names the agent "evil:A"'),
        (("games = 6", 'games = 6\nclassifier = "evil:make"'), 'names the network "evil:make"'),
        (("games = 6", 'games = 6\nclassifier = { network = "net.pt" }'), 'names the network "net.pt"'),
        (("games = 6", "games = "), "cannot be read"),
    ],
)
def test_foreign_code_is_not_run(honest: Path, tmp_path: Path, changed: tuple[str, str], says: str) -> None:
    folder = copied(honest, tmp_path, scenario=SCENARIO.replace(*changed))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(SubmissionError) as caught:
        checked(folder)
    assert says in str(caught.value) and not (tmp_path / "ran").exists()


def test_files_must_be_there(honest: Path, tmp_path: Path) -> None:
    folder = copied(honest, tmp_path)
    (folder / "other.db").write_text("x")
    with pytest.raises(SubmissionError, match=r"must hold one log \(a .db\); found log.db, other.db"):
        checked(folder)
    with pytest.raises(SubmissionError, match="there is no folder"):
        checked(tmp_path / "nowhere")


def test_the_command_ends_with_what_was_found(honest: Path, tmp_path: Path, capsys) -> None:
    from arena.cli.submit import submit_command

    assert app is not None
    status, report = submit_command(honest, sample=1, seed=3)
    said = " ".join(capsys.readouterr().out.split())
    assert status == 0 and report.status == "bit for bit"
    assert "drawn with --seed 3; had one shard alone been altered" in said
    assert f"bit for bit: 1 of {report.shards} shards replayed" in said
    folder = copied(honest, tmp_path, "UPDATE runs SET ended = NULL")
    assert submit_command(folder, sample=1, seed=3)[0] == 1
    assert "fault: run 1 of the log has not ended" in capsys.readouterr().out


STRANGE = """
from contextlib import suppress
from pathlib import Path
from dataclasses import dataclass
from agents.attackers.score.square import Square

with suppress(OSError):
    Path({ran!r}).touch()

@dataclass(frozen=True)
class Strange(Square):
    pass
"""


def test_strange_agents_that_play_apart_are_checked(replays, tmp_path: Path, monkeypatch) -> None:
    """No process but their own imports them."""
    folder = tmp_path / "strange"
    folder.mkdir()
    (tmp_path / "strange_agents.py").write_text(STRANGE.format(ran=str(tmp_path / "ran")))
    monkeypatch.syspath_prepend(tmp_path)
    text = SCENARIO.replace('{ name = "square", p = 0.3 }', '"strange_agents:Strange"')
    text = text.replace("games = 6", 'games = 3\nisolation = "process"').replace('["none", ', "[")
    (folder / "submitted.toml").write_text(text)
    (folder / "card.toml").write_text(CARD.replace('"snd"', '"strange_agents:Strange"'))
    with open_log(folder / "log.db") as log:
        Run(load_scenario(folder / "submitted.toml"), device="cpu").play(log, replays.Silent())
    report = checked(folder)
    assert report.status == "bit for bit" and report.faults == ()
    assert not (tmp_path / "ran").exists() and "strange_agents" not in sys.modules
    (folder / "submitted.toml").write_text(text.replace('isolation = "process"', 'isolation = "none"'))
    with pytest.raises(SubmissionError, match='names the agent "strange_agents:Strange"'):
        checked(folder)


def test_values_that_fit_their_columns_and_are_none(honest: Path, tmp_path: Path) -> None:
    for number, statement in enumerate(
        (
            "UPDATE runs SET resolved = '[1]'",
            "UPDATE runs SET resolved = '{\"matches\": [[1], {}]}'",
            "UPDATE runs SET resolved = '" + "[" * 5000 + "]" * 5000 + "'",
            "UPDATE runs SET started = 'yesterday'",
            'UPDATE matches SET threat = \'{"budget": "x"}\'',
            "UPDATE matches SET image_shape = '[1]'",
            "UPDATE games SET reason = 'bored'",
            "UPDATE games SET final = x'789c'",
            "UPDATE shards SET games = 4000000000",
            "UPDATE shards SET level = 'x'",
        )
    ):
        (tmp_path / str(number)).mkdir()
        report = checked(copied(honest, tmp_path / str(number), statement), sample=1)
        failed = [one for one in report.outcomes if one.status == "failed"]
        assert report.status == "failed" and (report.faults or failed), statement


def test_reference_networks_are_part_of_what_is_confirmed(replays, tmp_path: Path) -> None:
    """Their names stand in the scenario, their SHAs in the log, and shards are played again with them."""
    folder = tmp_path / "helped"
    folder.mkdir()
    networks = 'surrogates = ["digits-cnn", { network = "digits-cnn", mean = 0.1, std = 0.5 }]'
    scenario = SCENARIO.replace('{ name = "square", p = 0.3 }', '"subspace"').replace(
        'objective = "submit"', f"resources = {{ {networks} }}"
    )
    (folder / "submitted.toml").write_text(scenario)
    (folder / "card.toml").write_text(CARD)
    with open_log(folder / "log.db") as log:
        Run(load_scenario(folder / "submitted.toml"), device="cpu").play(log, replays.Silent())
    report = checked(folder, sample=1)
    assert report.status == "bit for bit" and report.faults == ()
    with closing(sqlite3.connect(folder / "log.db", isolation_level=None)) as connection:
        (threat,) = connection.execute("SELECT threat FROM matches LIMIT 1").fetchone()
        sha = json.loads(threat)["resources"]["surrogates"][1]["sha"]
        connection.execute("UPDATE matches SET threat = replace(threat, ?, ?)", (sha, sha[::-1]))
    assert any(
        "the log's threat is not the scenario's" in fault for fault in checked(folder, sample=1).faults
    )
