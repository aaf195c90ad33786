from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from arena.datasets.folders import cache
from arena.game.blame import DefenderError
from arena.players.measured import Measured
from arena.players.registry import names
from bench.defenders import STACKS, Bench, bench_of, commit, held, keep, lineup, main


@pytest.fixture(scope="module")
def bench() -> Bench:
    return replace(bench_of("digits", games=4, images=40, seconds=3), seconds=3)


def test_every_defender_is_measured_alone_and_stacks_of_those_that_are_there() -> None:
    found = list(lineup())
    assert [stack[0] for stack in found if len(stack) == 1] == names("defender")
    assert all(set(stack) <= set(names("defender")) for stack in found)
    assert all(len(stack) > 1 for stack in STACKS)


def test_a_measurement_says_what_it_costs_and_holds(bench: Bench) -> None:
    one = bench.measure(("snd",))
    assert (one.world, one.stack, one.games, one.failed) == ("digits", ("snd",), 4, "")
    for value, low, high in (one.accuracy, one.square):
        assert 0 <= low <= value <= high <= 1
    assert one.lost[1] <= one.lost[0] <= one.lost[2]
    assert one.hop_skip_jump[0] > 0 and one.time[0] > 0 and one.preparing >= 0
    assert one.images == 40


def test_parameters_are_changed_alone_and_in_stacks(bench: Bench) -> None:
    changed = replace(bench, changed={"snd": {"sigma": 0.5}})
    one = changed.measure(("none", "snd"))
    assert one.parameters == "snd: sigma = 0.5"
    assert one.accuracy[0] < 0.9
    assert one.lost[0] > 0


def test_what_cannot_be_prepared_says_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.defenders.disagreement import Disagreement

    def fails(*_: object) -> None:
        raise RuntimeError("no such layer")

    monkeypatch.setattr(Disagreement, "fit", fails)
    one = bench.measure(("disagreement",))
    assert "no such layer" in one.failed and one.games == 0


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "measured.jsonl"
    how = ["--games", "2", "--images", "20", "--seconds", "1", "--out", str(out)]
    main([*how, "--only", "none", "weak"])
    first = held(out)
    assert set(first) == {("digits", ("none",)), ("digits", ("weak",))}
    assert "Square" in capfd.readouterr().out
    main([*how, "--only", "weak"])
    assert repr(held(out)["digits", ("none",)]) == repr(first["digits", ("none",)])
    assert capfd.readouterr().out.startswith("weak: ")
    keep(out, replace(first["digits", ("weak",)], commit="other"))
    assert [one.commit for one in held(out).values()][1] == "other"
    assert len(out.read_text().splitlines()) == 2


def test_each_of_several_stacks_gets_a_process_that_measures_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("subprocess.run", lambda words, **how: started.append(words))
    main(["--only", "none", "rnd+pgd-at", "--games", "7", "--out", str(tmp_path / "out")])
    measured = []

    class Told:
        def __init__(self, world: str, data: object, **how: object) -> None:
            self.games = how["games"]

        def measure(self, stack: tuple[str, ...]) -> Measured:
            measured.append((stack, self.games))
            return Measured("digits", stack, "", "", "", failed="not measured")

    monkeypatch.setattr("bench.defenders.bench_of", Told)
    for words in started:
        main(words[4:])
    assert measured == [(("none",), 7), (("rnd", "pgd-at"), 7)]


def test_a_stack_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "none", "trade"])
    assert "there is no stack 'trade'; there are aaa-exact, " in capsys.readouterr().err


def test_what_was_trained_before_is_trained_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    own, met = cache(), []

    def note(*args: object) -> None:
        met.append((cache(), cache().exists()))
        raise DefenderError("seen")

    monkeypatch.setattr("bench.defenders.prepare", note)
    assert [bench.measure((name,)).failed for name in ("none", "weak")] == ["seen", "seen"]
    assert not any(there for _, there in met) and len({own, *(folder for folder, _ in met)}) == 3
    assert cache() == own


def test_measurements_written_before_leave_the_commit_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    figures, code = (tmp_path / "agents" / "defenders" / name for name in ("measured.jsonl", "snd.py"))
    figures.parent.mkdir(parents=True)
    figures.write_text("")
    code.write_text("")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    monkeypatch.setattr("bench.defenders.ROOT", tmp_path)
    clean = commit()
    figures.write_text("{}")
    assert clean and commit() == clean
    code.write_text("changed")
    assert commit() == f"{clean}+"
