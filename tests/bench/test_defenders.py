from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from arena.players.registry import names
from bench.defenders import STACKS, Bench, _without_only, bench_of, held, keep, lineup, main


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


def test_a_process_of_one_stack_is_told_all_options_but_which_stacks() -> None:
    assert _without_only(["--games", "2", "--only", "a", "b+c", "--out", "x"]) == [
        "--games",
        "2",
        "--out",
        "x",
    ]
    assert _without_only(["--only", "a"]) == [] and _without_only(["--games", "2"]) == ["--games", "2"]
