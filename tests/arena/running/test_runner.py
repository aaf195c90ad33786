"""A run: what it leaves in the log, that it goes on after interruptions, and that it repeats bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from arena.evaluation.clean_images import Evaluation
from arena.game.stack import Stack
from arena.log import open_log
from arena.log import questions as ask
from arena.report.summary import progress, read_rows, read_run
from arena.running.runner import Run
from arena.scenario.errors import ScenarioError
from arena.scenario.files import parse_scenario
from arena.scenario.jobs import shard_count, tasks

TABLE = {
    "games": 12,
    "shard": 5,
    "utility": 60,
    "repeats": 2,
    "at": [5, 10],
    "attackers": [{"name": "square", "p": 0.3}],
    "defenders": ["none", {"name": "snd", "sigma": 0.05}],
    "threat": {"epsilon": 0.2, "budget": 20},
}


def run(**changes) -> Run:
    return Run(parse_scenario({**TABLE, **changes}, "small", Path.cwd(), "small"), device="cpu")


class Watcher:
    def __init__(self, stop_after: int | None = None) -> None:
        self.queries = self.shards = self.skipped = 0
        self.stop_after = stop_after

    def match(self, match, games):
        pass

    def played(self, queries):
        self.queries += queries
        if self.stop_after is not None and self.shards >= self.stop_after:
            raise KeyboardInterrupt

    def ended(self, games, skipped):
        self.shards += 1
        self.skipped += skipped


def content(path: Path) -> dict[str, list[tuple]]:
    """All that is in a log's finished shards but ids and times."""
    with open_log(path, create=False) as log:
        games = ask.sql(
            log,
            "SELECT m.number, g.repeat, g.shard, g.image, g.label, g.reason, g.queries, g.answered, g.vote, "
            "g.base, g.hit_at, g.accepted_at, g.l2, g.linf, g.final FROM finished_games g "
            "JOIN matches m ON m.id = g.match_id ORDER BY 1, 2, 3, 4",
        ).rows
        rows = ask.sql(
            log,
            "SELECT m.number, g.repeat, g.image, q.turn, q.label, q.margin, q.l2, q.hit, q.purpose "
            "FROM finished_queries q JOIN finished_games g ON g.id = q.game_id "
            "JOIN matches m ON m.id = g.match_id ORDER BY 1, 2, 3, 4",
        ).rows
        marks = ask.sql(
            log,
            "SELECT m.number, g.repeat, g.image, k.at, k.turn, k.answered, k.vote, k.base "
            "FROM finished_marks k JOIN finished_games g ON g.id = k.game_id "
            "JOIN matches m ON m.id = g.match_id ORDER BY 1, 2, 3, 4",
        ).rows
        worth = ask.sql(
            log,
            "SELECT m.number, u.images, u.accuracy, u.low, u.high, u.declined, u.refused, u.agreement, "
            "u.ece, u.ece_mass, u.nll, u.batch FROM utilities u "
            "JOIN matches m ON m.id = u.match_id ORDER BY 1",
        ).rows
    return {"games": games, "queries": rows, "marks": marks, "utilities": worth}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runner") / "whole.db"
    with open_log(path) as log:
        assert run().play(log, Watcher())[1]
    return path


def test_all_matches_play_the_same_games(whole):
    with open_log(whole, create=False) as log:
        (only,) = ask.runs(log)
        assert only.ended is not None
        first, second = (ask.outcomes(log, m.id) for m in ask.matches(log, only.id))
    assert (first.image == second.image).all()
    assert (first.label == second.label).all()
    played = np.array([reason != "clean" for reason in first.reason])
    assert played.sum() == 12 * 2
    assert (first.image[first.repeat == 0] == first.image[first.repeat == 1]).all()


def test_every_query_is_logged_and_counted(whole):
    logged = content(whole)
    queries = {}
    for number, repeat, image, *_ in logged["queries"]:
        queries[number, repeat, image] = queries.get((number, repeat, image), 0) + 1
    for number, repeat, _, image, _, reason, count, *_ in logged["games"]:
        assert queries.get((number, repeat, image), 0) == count <= 20
        assert (count == 0) == (reason == "clean")
    counts = {at for *_, at, _, _, _, _ in ((m[0], m[3], *m[4:]) for m in logged["marks"])}
    assert counts == {0, 5, 10, 20}
    assert len(logged["marks"]) == 4 * len(logged["games"])


def test_repeats_have_draws_of_their_own(whole):
    finals = {(g[0], g[1], g[3]): g[-1] for g in content(whole)["games"] if g[5] != "clean"}
    differing = sum(finals[key] != finals[key[0], 1, key[2]] for key in finals if key[1] == 0)
    assert differing > 12


def test_the_same_scenario_gives_the_same_log_after_interruptions(whole, tmp_path):
    path = tmp_path / "cut.db"
    for stop in (0, 2, 3):
        with open_log(path) as log, pytest.raises(KeyboardInterrupt):
            run().play(log, Watcher(stop_after=stop))
    with open_log(path) as log:
        watcher = Watcher()
        assert run().play(log, watcher)[1]
    assert watcher.skipped == 3
    assert content(path) == content(whole)


def test_radii_that_change_are_recorded_without_playing_again(tmp_path):
    words = {
        "attackers": [{"name": "hop-skip-jump", "initial_probes": 5}],
        "threat": {"norm": "l2", "epsilon": "inf", "budget": 20, "feedback": "label", "objective": "minimum"},
        "repeats": 1,
        "games": 4,
    }
    with open_log(tmp_path / "x.db") as log:
        run(**words, radii=[0.5]).play(log, Watcher())
        assert [m.info.radii for m in ask.matches(log, 1)] == [(0.5,)] * 2
        watcher = Watcher()
        assert run(**words, radii=[1, "inf"]).play(log, watcher) == (1, False)
        assert not watcher.queries
        assert [m.info.radii for m in ask.matches(log, 1)] == [(1, np.inf)] * 2


def test_a_size_is_told_by_title_and_log(tmp_path):
    table = {**TABLE, "size": "tiny", "sizes": {"tiny": {"games": 2, "utility": 0}, "full": {"games": 9999}}}
    tiny = Run(parse_scenario(table, "sized", Path.cwd(), "sized"), device="cpu")
    with open_log(tmp_path / "x.db") as log:
        tiny.play(log, Watcher())
        info = read_run(log).info
        assert info.title == "sized (size tiny)"
        assert (info.resolved["size"], info.resolved["sizes"]) == ("tiny", ["tiny", "full"])
        assert progress(read_run(log), read_rows(log, 1)).expected == 2 * 2


def test_every_match_holds_the_utility_of_its_stack(whole):
    (first, second) = content(whole)["utilities"]
    assert first[:2] == (0, 60) and second[:2] == (1, 60)
    assert first[7] == 1, "the undefended classifier agrees with itself"
    assert second[7] <= 1 and first[10] != second[10], "noise changes the likelihood"


def test_a_stack_is_evaluated_once_and_not_again_after_an_interruption(tmp_path, monkeypatch):
    evaluated = []
    of = Evaluation.of

    def counted(self, stack, **options):
        evaluated.append(len(stack.defenders))
        return of(self, stack, **options)

    monkeypatch.setattr(Evaluation, "of", counted)
    both = {"attackers": [{"name": "square", "p": 0.3}, "random-search"], "repeats": 1}
    path = tmp_path / "cut.db"
    with open_log(path) as log, pytest.raises(KeyboardInterrupt):
        run(**both).play(log, Watcher(stop_after=4))
    assert len(evaluated) == 2, "of the first attacker's two matches, one was begun after the other's end"
    with open_log(path) as log:
        assert run(**both).play(log, Watcher())[1]
    assert len(evaluated) == 2
    rows = content(path)["utilities"]
    assert [row[1:] for row in rows[:2]] == [row[1:] for row in rows[2:]]


def test_other_counts_of_images_are_another_run_and_none_leaves_none(whole, tmp_path):
    path = tmp_path / "none.db"
    assert run(utility=0).info().fingerprint != run().info().fingerprint
    with open_log(path) as log:
        run(utility=0).play(log, Watcher())
    found = content(path)
    assert found["utilities"] == []
    assert {key: found[key] for key in ("games", "queries", "marks")} == {
        key: value for key, value in content(whole).items() if key != "utilities"
    }, "an evaluation leaves no trace in the games"


def test_the_log_knows_all_shards_before_they_are_played(tmp_path):
    path = tmp_path / "cut.db"
    with open_log(path) as log, pytest.raises(KeyboardInterrupt):
        run().play(log, Watcher(stop_after=1))
    prepared = run()
    wanted = sum(shard_count(m, g) for m, g in zip(prepared.scenario.matches, prepared.worlds, strict=True))
    with open_log(path, create=False) as log:
        done = progress(read_run(log), read_rows(log, 1))
    assert (done.finished, done.expected) == (1, wanted)


def test_a_finished_run_is_not_played_again_unless_asked_for(whole, tmp_path):
    path = tmp_path / "again.db"
    path.write_bytes(whole.read_bytes())
    with open_log(path) as log:
        watcher = Watcher()
        run_id, played = run().play(log, watcher)
        assert (played, watcher.queries) == (False, 0)
        assert run(seed=1).play(log, Watcher()) == (run_id + 1, True)
        again, played = run().play(log, Watcher(), fresh=True)
        assert played and again == run_id + 2


PLAY_AND_HANG = """
import sys
sys.path.insert(0, sys.argv[2])
import time
import test_runner as t
from arena.log import open_log

class Hangs(t.Watcher):
    def played(self, queries):
        super().played(queries)
        if self.shards == 2 and queries:
            print("in the third shard", flush=True)
            time.sleep(600)

with open_log(sys.argv[1]) as log:
    t.run().play(log, Hangs())
"""


def test_kill_loses_no_finished_shard(whole, tmp_path, children):
    path = tmp_path / "killed.db"
    child = children.start(PLAY_AND_HANG, str(path), str(Path(__file__).parent))
    child.wait_until(lambda: "in the third shard" in child.out.read_text())
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    with open_log(path) as log:
        watcher = Watcher()
        assert run().play(log, watcher)[1]
    assert watcher.skipped == 2
    assert content(path) == content(whole)


def test_shards_are_cut_by_the_scenario_alone():
    prepared = run()
    (match, _), (world, _) = prepared.scenario.matches, prepared.worlds
    stack = Stack(world.classifier, match.defenders)
    shards = list(tasks(match, world, stack, "queries"))
    cut = [(s.number, s.repeat, s.rows.start, s.rows.stop) for s in shards]
    assert len(shards) == shard_count(match, world)
    drawn = len(world)
    assert cut[:2] == [(0, 0, 0, 5), (1, 0, 5, 10)]
    assert cut[-1][3] == drawn
    assert sum(stop - start for *_, start, stop in cut) == 2 * drawn


def test_a_world_without_a_game_says_so(tmp_path, monkeypatch):
    (tmp_path / "eleventh.py").write_text(
        "import torch\n"
        "class Eleventh(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.eye(11)[torch.full((len(x),), 10)]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ScenarioError, match="gets 0 of the 650 images of digits right: there is nothing"):
        run(classifier={"network": "eleventh:Eleventh"})
    with pytest.raises(ScenarioError, match="games: found 5000; classifier digits-cnn gets"):
        run(games=5000)


def test_the_level_follows_the_expected_rows():
    assert run().level == "queries"
    assert run(threat={"epsilon": 0.2, "budget": 10_000_000}).level == "changes"
    assert run(log="games").level == "games"
