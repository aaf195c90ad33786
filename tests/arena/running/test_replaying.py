"""What a log holds is played again from the log alone, bit for bit; what was changed in it is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arena.log import LogError, open_log, questions
from arena.running.comparing import ALPHA
from arena.running.rebuilding import ReplayError
from arena.running.replaying import Checked, Replayer
from arena.scenario.files import parse_scenario
from arena.scenario.seeds import Seeds


@pytest.fixture(scope="module")
def log(replays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return replays.play(tmp_path_factory.mktemp("replays") / "run.db")


def check(path: Path, match: int = 2, shard: int = 1, **options) -> Checked:
    with open_log(path, create=False) as book, Replayer(book, **options) as replayer:
        return replayer.check(replayer.shards(match)[shard])


@pytest.mark.parametrize("match", [1, 2])
def test_a_shard_is_played_again_bit_for_bit(log: Path, match: int) -> None:
    for shard in (0, 1):
        found = check(log, match, shard)
        assert found.how == "bits" and found.passed and found.comparison.equal
        assert found.replayed.play.other_facts == ()
        assert found.comparison.rows["games"] == found.replayed.shard.games > 0
        assert found.comparison.rows["queries"] > found.comparison.rows["games"]


FRAUDS = {
    "a verdict flipped": (
        "UPDATE games SET answered = 1 - answered WHERE id IN (SELECT max(id) FROM games)",
        ("games", "answered"),
    ),
    "a vote raised": (
        "UPDATE games SET vote = 1 - vote WHERE id IN (SELECT max(id) FROM games)",
        ("games", "vote"),
    ),
    "a mark changed": (
        "UPDATE marks SET base = 1 - base WHERE game_id IN (SELECT max(id) FROM games)",
        ("marks", "base"),
    ),
    "queries removed": (
        "DELETE FROM queries WHERE game_id IN (SELECT max(id) FROM games) AND turn > 3",
        ("queries", "rows"),
    ),
    "a margin changed in the last digit": (
        "UPDATE queries SET margin = margin * 1.0000001 WHERE turn = 2"
        " AND game_id IN (SELECT max(id) FROM games)",
        ("queries", "margin"),
    ),
    "another final image": (
        "UPDATE games SET final = (SELECT final FROM games ORDER BY id LIMIT 1) WHERE id IN"
        " (SELECT max(id) FROM games)",
        ("games", "final"),
    ),
    "a count of purposes": (
        "UPDATE purposes SET queries = queries - 1 WHERE shard_id IN (SELECT max(id) FROM shards)",
        ("purposes", "queries"),
    ),
}


@pytest.mark.parametrize("name", FRAUDS)
def test_what_was_changed_is_found(replays, log: Path, name: str) -> None:
    statement, place = FRAUDS[name]
    found = check(replays.tampered(log, statement))
    assert found.how == "bits" and not found.passed
    assert [(d.table, d.column) for d in found.comparison.differences] == [place]
    assert found.comparison.games == (() if place[0] == "purposes" else (found.replayed.shard.games - 1,))
    assert "in the log" in str(found.comparison.differences[0])


OTHER_VERSION = (
    'UPDATE runs SET resolved = replace(resolved, \'"numpy": "\', \'"numpy": "1.\')',
    "UPDATE matches SET fingerprint = 'of another machine'",
)


LAST_IMAGE = "UPDATE games SET image = image + 1 WHERE id IN (SELECT max(id) FROM games)"
OTHER_SIGMA = "UPDATE runs SET resolved = replace(resolved, '\"sigma\": 0.1', '\"sigma\": 0.3')"


def other_machine(replays, log: Path, *more: str) -> Path:
    """As if another version had played."""
    for statement in (*OTHER_VERSION, *more):
        log = replays.tampered(log, statement)
    return log


def test_another_version_is_compared_by_shares(replays, log: Path) -> None:
    found = check(
        other_machine(replays, log, "UPDATE queries SET margin = margin * 1.0000001 WHERE turn > 2")
    )
    assert found.how == "shares" and found.passed and not found.comparison.equal
    (fact,) = found.replayed.play.other_facts
    assert fact.startswith("numpy: 1.") and fact.endswith(" here")


def test_shares_beyond_tolerance_fail(replays, tmp_path: Path) -> None:
    whole = replays.play(tmp_path / "whole.db", games=14, shard=20, defenders=["none"])
    lost = "UPDATE games SET answered = 0, vote = 0, base = 0"
    honest, fraud = (
        check(other_machine(replays, whole), 1, 0),
        check(other_machine(replays, whole, lost), 1, 0),
    )
    assert honest.how == fraud.how == "shares"
    assert honest.passed and not fraud.passed
    assert min(share.p for share in fraud.comparison.shares) < ALPHA


def test_other_images_are_never_within_tolerance(replays, log: Path) -> None:
    found = check(other_machine(replays, log, LAST_IMAGE))
    assert found.how == "shares" and not found.passed


def test_a_fingerprint_that_belies_the_log_is_told(replays, log: Path) -> None:
    found = check(replays.tampered(log, "UPDATE matches SET fingerprint = 'of another machine'"))
    assert found.how == "shares"
    assert found.replayed.play.other_facts == (
        "the log's fingerprint of the match is not that of what it says of it",
    )


def test_other_parameters_play_another_match(replays, log: Path) -> None:
    """A fraud that says sigma was 0.3 is found by playing it so."""
    found = check(replays.tampered(log, OTHER_SIGMA))
    assert found.how == "shares" and not found.comparison.equal


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ('\'"name": "square"\', \'"name": "no-such"\'', 'there is no attacker "no-such"'),
        ('\'"classifier_sha": "\', \'"classifier_sha": "0\'', "the classifier"),
        ('\'"dataset_sha": "\', \'"dataset_sha": "0\'', "the data set digits here is another"),
        ("'\"attacker\": ', '\"attacked\": '", "was not played from a scenario"),
        ("'\"shard\": 4', '\"shard\": 3'", "has no shard 0 (repeat 0) of 4 games"),
    ],
)
def test_what_cannot_be_played_again_is_told(replays, log: Path, changes: str, says: str) -> None:
    with pytest.raises(ReplayError) as caught:
        check(replays.tampered(log, f"UPDATE runs SET resolved = replace(resolved, {changes})"), shard=0)
    assert says in str(caught.value)


def test_values_of_another_kind_are_refused(replays, log: Path) -> None:
    with pytest.raises(LogError, match="column margin of queries holds what is no number"):
        check(replays.tampered(log, "UPDATE queries SET margin = 'much' WHERE turn = 1"))


def test_a_changed_job_is_another_play(log: Path) -> None:
    with open_log(log, create=False) as book, Replayer(book) as replayer:
        shard = replayer.shards(1)[0]
        longer = replayer.replay(shard, lambda job: replace(job, threat=job.threat.with_budget(40)))
        again = questions.outcomes(longer.scratch, longer.again.match_id)
        before = questions.outcomes(book, 1)
        assert again.image.tolist() == before.image[before.shard == 0].tolist()
        assert again.queries.max() > before.queries.max()
        assert replayer.check(shard).passed


def test_agents_that_the_log_cannot_name_come_from_the_scenario(replays, log: Path) -> None:
    """`known` matches are used as they are, where they are the same."""
    known = parse_scenario(replays.TABLE, "small", Path.cwd(), "small").matches
    with open_log(log, create=False) as book, Replayer(book, known=known) as replayer:
        play = replayer.open(2)
        assert play.same and play.match.attacker is known[1].attacker


def test_a_ranked_run_is_played_again_with_its_secret_alone(replays, tmp_path: Path) -> None:
    """Secret seeds, agents in processes of their own."""
    secret, other = Seeds(b"0123456789abcdef!"), Seeds(b"0123456789abcdef?")
    path = replays.play(tmp_path / "ranked.db", secret, games=3, defenders=["snd"], isolation="process")
    found = check(path, 1, 0, seeds=secret)
    assert found.how == "bits" and found.passed and found.comparison.rows["queries"] > 0
    with pytest.raises(ReplayError, match="played with a secret seed: once that is published"):
        check(path, 1, 0)
    with pytest.raises(ReplayError, match="with another secret seed than the one given"):
        check(path, 1, 0, seeds=other)


@pytest.mark.parametrize("defenders", [["none"], [{"name": "snd", "sigma": 0.1}]])
def test_a_monitor_is_replayed_with_its_match(replays, tmp_path: Path, defenders: list[Any]) -> None:
    path = replays.play(tmp_path / "run.db", margin_base=True, defenders=defenders)
    assert check(path, 1).comparison.equal
    changed = replays.tampered(path, "UPDATE queries SET margin_base = margin_base + 1 WHERE turn = 2")
    (difference,) = check(changed, 1, 0).comparison.differences
    assert (difference.table, difference.column) == ("queries", "margin_base")
    known = parse_scenario({**replays.TABLE, "defenders": defenders}, "small", tmp_path, "small").matches
    assert check(path, 1, known=known).comparison.equal, "a scenario without the monitor is another"


def test_reference_networks_are_loaded_again_and_must_be_the_same(replays, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from arena.classifiers.loading import PACKAGED

    packed = load_file(PACKAGED["digits_cnn"])
    save_file(packed, tmp_path / "reference.safetensors")
    threat = {
        "epsilon": 0.2,
        "budget": 9,
        "resources": {"surrogates": [{"network": "digits-cnn", "weights": "reference.safetensors"}]},
    }
    path = replays.play(tmp_path / "run.db", attackers=["subspace"], defenders=["none"], threat=threat)
    found = check(path, 1, 0, data_dirs=[tmp_path])
    assert found.how == "bits" and found.passed
    with open_log(path, create=False) as log:
        assert questions.sql(log, "SELECT knowledge FROM matches").rows == [("surrogates",)]
        (named,) = questions.match(log, 1).info.threat.resources.surrogates
    assert set(named.table) == {"network", "sha"} and len(str(named.table["sha"])) == 64
    save_file({key: 1.01 * tensor for key, tensor in packed.items()}, tmp_path / "reference.safetensors")
    with pytest.raises(ReplayError, match="reference network digits-cnn here is another than the one"):
        check(path, 1, 0, data_dirs=[tmp_path])
