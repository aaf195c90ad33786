"""A match from Python in one call, and what comes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import arena
from agents.attackers.adaptive.eot import EOT
from agents.attackers.score.square import Square
from agents.defenders.snd import SND
from arena.log import open_log, questions
from arena.notebook.result import Result
from arena.players import Attacker, Games, Needs, Play
from arena.rules.threat import Threat


def linear(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4))


@pytest.fixture(scope="module")
def world():
    model = linear()
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(30, 1, 6, 6, generator=generator) * 0.6 + 0.2
    labels = model(images).argmax(1)
    labels[4] = (labels[4] + 1) % 4
    return {"model": model, "images": images, "labels": labels}


RULES = {"epsilon": 0.15, "budget": 60}


def test_classes_play_as_their_instances_do(world):
    def final(attacker, defender):
        return arena.play(
            attacker, defender, classifier=world["model"], **_data(world), threat=RULES
        ).images.tobytes()

    assert final(Square, SND) == final(Square(), SND()) == final("square", "snd")
    assert final(EOT(of=Square), [SND]) == final(EOT(of=Square()), SND)
    with pytest.raises(ValueError, match=r'attacker "eot" needs parameter "of" \(Attacker\): give an inst'):
        final(EOT, "none")


def test_what_is_said_of_the_games_agrees_with_the_model(world):
    result = arena.play("square", classifier=world["model"], **_data(world), threat=RULES, at=[10], shard=8)
    final = torch.from_numpy(result.images)
    wrong = (world["model"](final).argmax(1) != world["labels"]).numpy()
    assert result.reason[4] == "clean" and not result.played[4]
    assert (result.base == wrong).all()
    assert (result.vote == wrong).all()
    assert (result.answered == (result.base & result.played)).all()
    assert result.answered.any()
    assert np.abs(result.images - result.originals).max() <= 0.15 + 1e-6
    assert (result.queries[~result.answered & result.played] == 60).all()
    assert result.clean_accuracy == pytest.approx(29 / 30)
    assert result.accuracy() == pytest.approx(1 - wrong.mean())
    assert list(result.marks) == [0, 10, 60]
    assert result.accuracy(at=10) == pytest.approx(
        1 - np.mean((result.games.hit_at > 0) & (result.games.hit_at <= 10) | ~result.played)
    )
    at, accuracy = result.curve()
    assert accuracy[0] == result.clean_accuracy
    assert accuracy[60] == pytest.approx(result.accuracy())
    assert len(at) == 61 and (np.diff(accuracy) <= 0).all()
    assert "clean accuracy 96.7 %" in str(result)
    assert len(repr(result)) < 1000
    assert result.rows == []


def test_shards_do_not_change_a_game(world):
    def transcript(shard: int) -> dict[tuple[int, int], tuple[int, float]]:
        result = arena.play(
            "square",
            "snd",
            classifier=world["model"],
            **_data(world),
            threat=RULES,
            shard=shard,
            keep_rows=True,
        )
        assert sum(len(rows.game) for rows in result.rows) == result.queries.sum()
        return {
            (int(g), int(t)): (int(label), float(margin))
            for rows in result.rows
            for g, t, label, margin in zip(rows.game, rows.turn, rows.label, rows.margin, strict=True)
        }

    whole, cut = transcript(30), transcript(7)
    assert whole.keys() == cut.keys()
    assert all(whole[k][0] == cut[k][0] and math.isclose(whole[k][1], cut[k][1], abs_tol=1e-5) for k in whole)


def test_targets_are_drawn_or_given(world):
    rules = {**RULES, "goal": "targeted"}
    drawn = arena.play("square", classifier=world["model"], **_data(world), threat=rules)
    assert (drawn.games.target != drawn.games.label).all()
    targets = (world["labels"] + 2) % 4
    given = arena.play("square", classifier=world["model"], **_data(world), threat=rules, targets=targets)
    assert (given.games.target == targets.numpy()).all()
    final = world["model"](torch.from_numpy(given.images)).argmax(1)
    assert (given.answered[given.played] == (final == targets).numpy()[given.played]).all()


def test_arrays_and_a_plain_function_will_do(world):
    model, images, labels = world["model"], world["images"].numpy(), world["labels"].numpy()
    result = arena.play(
        "square", classifier=lambda x: model(x), images=images, labels=labels, threat=Threat(**RULES)
    )
    assert len(result.games) == 30


def test_an_attacker_that_evaluates_a_detector_is_told_where_there_is_none(world):
    rules = {**RULES, "norm": "l2", "feedback": "label", "knowledge": "detector"}
    with pytest.raises(ValueError, match=r"bypass-fq cannot play this defense: .* has a detector"):
        arena.play("bypass-fq", "snd", classifier=world["model"], **_data(world), threat=rules)


def test_a_defender_that_prepares_itself_gets_the_data_or_says_what_it_needs(world):
    pair = (world["images"], world["labels"])
    result = arena.play(
        "square", "aaa-linear", classifier=world["model"], **_data(world), threat=RULES, calibration=pair
    )
    assert len(result.games) == 30
    with pytest.raises(ValueError, match="pass calibration="):
        arena.play("square", "aaa-linear", classifier=world["model"], **_data(world), threat=RULES)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": torch.rand(30, 36)}, r"images must be float \[n,C,H,W\]"),
        ({"images": torch.full((30, 1, 6, 6), 2.0)}, "lie in"),
        ({"images": torch.full((30, 1, 6, 6), torch.nan)}, "lie in"),
        ({"images": torch.zeros(30, 1, 6, 6, dtype=torch.uint8)}, "divide by 255"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "labels must be whole numbers"),
        ({"labels": torch.full((30,), 9)}, "labels go up to 9"),
        ({"threat": {"epsilon": 0.1, "budget": 5, "feedback": "label"}}, "cannot play this threat"),
        (
            {"threat": {**RULES, "goal": "targeted"}, "targets": torch.full((30,), 4)},
            "targets must be from 0 to 3",
        ),
        ({"targets": torch.zeros(30, dtype=torch.int64)}, 'the goal is "untargeted"'),
        ({"at": [61]}, "at must be whole numbers from 1 to the budget 60; found 61"),
        ({"at": [2.5]}, "found 2.5"),
        ({"at": ["ten"]}, "found 'ten'"),
        ({"at": 10}, r"at must be a list of query counts, such as \[10, 100\]; found 10"),
        ({"at": [True]}, "found True"),
        ({"batch": 0}, "batch must be a whole number, at least 1; found 0"),
        ({"labels": ["cat"] * 30}, "labels must be whole numbers .* found list of str"),
        ({"threat": 7}, "threat must be a Threat or a table"),
        ({"threat": {**RULES, "quantization": "round"}}, 'did you mean "quantisation"'),
        ({"threat": {**RULES, "resources": {"starts": True}}}, "pass resources="),
        ({"margin_base": True}, "margin_base is kept beside each query: pass keep_rows=True, or a log"),
        ({"votes": 0}, "votes must be a whole number"),
        ({"votes": 10**12}, "votes must be at most 16,777,216; found 1000000000000"),
        ({"shard": 0}, "shard must be a whole number"),
        ({"device": "nowhere"}, 'there is no device "nowhere"'),
    ],
)
def test_bad_input_gets_one_clear_sentence(world, change, said):
    given = {**_data(world), "threat": RULES, "classifier": world["model"], **change}
    with pytest.raises(ValueError, match=said):
        arena.play("square", **given)


def _data(world):
    return {"images": world["images"], "labels": world["labels"]}


@dataclass(frozen=True)
class LastQuery(Attacker):
    """Asks for the clean images until one query is left, and with that one for the nearest corner of the
    box as far as the ball goes: a schedule that belongs to its budget."""

    needs = Needs(prefix=False)

    def play(self, games: Games) -> Play:
        for _ in range(games.threat.budget - 1):
            yield from games.ask(games.x0[games.open], games.open)
        i = games.open
        yield from games.ask(games.project((games.x0[i] > 0.5).float(), i), i)


@pytest.mark.parametrize("factor", [1, 2])
def test_a_schedule_of_one_budget_is_played_once_for_each_reported_count(world, factor):
    of = LastQuery() if factor == 1 else EOT(LastQuery(), repeats=2, convention="adaptive")
    rules = {"epsilon": 0.2, "budget": 6}
    whole = arena.play(of, classifier=world["model"], **_data(world), threat=rules, at=[2, 4], shard=8)
    assert list(whole.marks) == [0, 2 * factor, 4 * factor, 6 * factor]
    won = []
    for budget in (2, 4, 6):
        alone = arena.play(of, classifier=world["model"], **_data(world), threat=rules | {"budget": budget})
        mark, last = whole.marks[budget * factor], alone.marks[budget * factor]
        assert (mark.answered == last.answered).all()
        assert (mark.turn == last.turn).all()
        won.append(int(mark.answered.sum()))
    assert won[0] == won[1] == won[2] > 0
    assert whole.threat.budget == 6 * factor
    counts, accuracy = whole.curve()
    assert counts.tolist() == list(whole.marks)
    assert accuracy.tolist() == [whole.accuracy(at=count) for count in whole.marks]


@dataclass(frozen=True)
class Fails(Attacker):
    """Asks twice, and fails in the games of the first shard alone."""

    def play(self, games: Games) -> Play:
        for _ in range(2):
            yield from games.ask(games.x0[games.open], games.open)
        if 0 in games.key:
            raise ZeroDivisionError("a step of nothing")


@dataclass(frozen=True)
class ForgetsToProject(Attacker):
    """Asks for images far outside the ball, until the budget ends."""

    def play(self, games: Games) -> Play:
        while len(i := games.open):
            yield from games.ask(1 - games.x0[i], i)


def test_an_attacker_that_fails_is_told_and_leaves_no_figure(world):
    with pytest.warns(
        UserWarning, match=r"of 29 games ended 29 in error; the first: ZeroDiv.*of nothing \(test_api"
    ) as told:
        result = arena.play(Fails, classifier=world["model"], **_data(world), threat=RULES)
    assert [w.filename for w in told] == [__file__], "the caller's line"
    assert result.endings == {"error": 29}
    assert result.first_error.startswith("ZeroDivisionError: a step of nothing (test_api.py:")
    assert math.isnan(result.accuracy())
    assert "accuracy left  nothing is known" in repr(result)
    with pytest.warns(UserWarning, match="of 29 games ended 7 in error"):
        some = arena.play(Fails, classifier=world["model"], **_data(world), threat=RULES, shard=8)
    assert some.endings == {"resigned": 22, "error": 7}
    assert (some.accuracy(), some.failed.sum()) == (pytest.approx(29 / 30), 7)


def test_wrong_answers_outside_the_ball_are_counted_and_told(world):
    result = arena.play(
        ForgetsToProject, classifier=world["model"], **_data(world), threat=RULES | {"budget": 3}
    )
    wrong = (world["model"](1 - world["images"]).argmax(1) != world["labels"]).numpy()[result.played].sum()
    assert not result.answered.any()
    assert result.outside == (3 * wrong, 3 * wrong)
    assert f"! 100 % of the wrong answers lay outside the ball ({3 * wrong} of {3 * wrong})" in repr(result)


def test_all_attackers_meet_all_defenders_on_the_same_games(world):
    given = {
        "classifier": world["model"],
        **_data(world),
        "threat": RULES | {"objective": "submit"},
        "at": [10],
    }
    snd = {"name": "snd", "sigma": 0.1}
    results = arena.play_all([Square, {"name": "square", "p": 0.3}], {"plain": "none", "noisy": snd}, **given)
    pairs = [(a, d) for a in ("square (p=0.05)", "square (p=0.3)") for d in ("plain", "noisy")]
    assert list(results) == pairs
    alone = arena.play({"name": "square", "p": 0.3}, snd, **given)
    same = results["square (p=0.3)", "noisy"]
    assert (same.queries == alone.queries).all()
    assert (same.images == alone.images).all()
    assert (alone.headline, results[pairs[0]].headline) == ("vote", "answered")
    assert alone.accuracy() == alone.accuracy("vote") > alone.accuracy("answered")
    with pytest.raises(ValueError, match=r"cannot play plain: .* has a detector"):
        rules = {**RULES, "norm": "l2", "feedback": "label", "knowledge": "detector"}
        arena.play_all(["bypass-fq"], {"plain": "none", "noisy": snd}, **given | {"threat": rules})


def test_a_monitor_keeps_the_undefended_margin_beside_each_query(world, tmp_path):
    given = {"classifier": world["model"], **_data(world), "threat": RULES, "keep_rows": True}
    plain, watched = (
        arena.play("square", {"name": "snd", "sigma": 0.2}, **given, margin_base=monitored)
        for monitored in (False, True)
    )
    assert all(rows.margin_base is None for rows in plain.rows)
    assert "margin_base" not in plain.to_dataframe("queries")
    table = watched.to_dataframe("queries")
    assert table.drop(columns="margin_base").equals(plain.to_dataframe("queries"))
    assert table.margin_base.notna().all() and (table.margin_base != table.margin).any()
    again = Result.load(watched.save(tmp_path / "watched"))
    assert again.to_dataframe("queries").equals(table)
    log = tmp_path / "arena.db"
    arena.play(
        "square", {"name": "snd", "sigma": 0.2}, **{**given, "keep_rows": False}, margin_base=True, log=log
    )
    with open_log(log, create=False) as book:
        rows = questions.sql(book, "SELECT margin_base FROM finished_queries ORDER BY game_id, turn").rows
    assert sorted(row[0] for row in rows) == sorted(table.margin_base.tolist())


def test_reference_networks_are_passed_as_they_are_and_named_in_the_threat(world):
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4))
    results = arena.play_all(
        ["subspace", "square"], classifier=world["model"], **_data(world), threat=RULES, surrogates=[other]
    )
    helped, plain = (result.match.threat for result in results.values())
    (named,) = helped.resources.surrogates
    assert named.network == "Sequential" and len(str(named.table["sha"])) == 64
    assert (helped.known, plain.known) == ("surrogates", "none")
    assert not any(result.first_error for result in results.values())
    assert other.training and all(p.requires_grad for p in other.parameters())  # the caller's stays as it was


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "it needs a reference network; the threat grants none"),
        ({"surrogates": torch.nn.Flatten()}, "surrogates must be a list of networks; found"),
        ({"surrogates": [lambda x: x.flatten(1)[:, :3]]}, "surrogates: 1: .* has classes 3"),
        ({"surrogates": [lambda x: x.flatten(1)[:, :4].detach()]}, "surrogates: 1: .* gives no gradients"),
        ({"threat": {**RULES, "resources": {"surrogates": ["net"]}}}, r"pass surrogates=\[...\]"),
    ],
)
def test_reference_networks_that_do_not_fit_are_refused(world, change, said):
    given = {**_data(world), "threat": RULES, "classifier": world["model"], **change}
    with pytest.raises(ValueError, match=said):
        arena.play("subspace", **given)
