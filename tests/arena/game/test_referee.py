"""The Referee's promises one by one; that it keeps the rules as a whole: test_rules_of_play.py."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from arena.game.referee import longest_volley
from arena.game.shard import play_games
from arena.game.stack_oracle import StackOracle
from arena.game.waves import Wave
from arena.players import Defender, Games, Play
from arena.rules.geometry import quantise
from arena.rules.losses import attack_loss
from arena.rules.moves import Claim, Consult, Resign, Volley, VolleyError
from arena.rules.threat import Threat

# A game does not know which others are played beside it


def random_search(games: Games) -> Play:
    """Keyed steps, kept where the loss falls; two rows a game and volley."""
    x = games.x0.clone()
    loss = games.loss((yield from games.ask(x, purpose="start")))
    while len(i := games.open):
        step = 0.2 * games.normal((2, *x.shape[1:]), i)
        candidates = games.project((x[i].unsqueeze(1) + step).flatten(0, 1), i.repeat_interleave(2))
        answers = yield from games.ask(candidates, i.repeat_interleave(2), "step")
        new, which = games.loss(answers).view(-1, 2).min(dim=1)
        better = new < loss[i]
        x[i[better]] = candidates.view(-1, 2, *x.shape[1:])[better, which[better]]
        loss[i[better]] = new[better]


WORLD = [(8, 6, 9, 4), (6, 8, 4, 4), (9, 7, 4, 8), (6, 9, 5, 4), (8, 5, 5, 5)]


def transcripts(
    worlds: ModuleType, stack: list[Defender], places: list[int], **settings: Any
) -> dict[int, list[Any]]:
    """All that was reported of each game, by its number."""
    settings = {"threat": Threat(epsilon=2 / 16, budget=25, objective="submit"), "at": [4, 9], **settings}
    x0 = worlds.images([WORLD[place] for place in places])
    referee, record = worlds.referee(stack, x0=x0, key=[10 + place for place in places], seed=4, **settings)
    rows = play_games(worlds.Scripted(random_search), referee, referee.seat(seed=7))
    found: dict[int, list[Any]] = {10 + place: [] for place in places}
    number = rows.key.tolist()
    for row in worlds.log_of(record):
        found[number[row.pop("game")]].append(str(row))
    for (game, at), mark in worlds.marks_of(record).items():
        found[number[game]].append(f"{at} {mark}")
    for game in range(len(rows)):
        ends = [
            getattr(rows, name)[game] for name in ("reason", "queries", "refused", "hit_at", "l2", "linf")
        ]
        found[number[game]].append(str([*ends, rows.vote[game], rows.final[game].tolist()]))
    return {key: sorted(lines) for key, lines in found.items()}


@pytest.mark.parametrize("stack", ["", "noise", "memory", "all"])
@pytest.mark.parametrize("objective", ["first", "submit", "minimum"])
def test_a_game_leaves_the_same_transcript_alone_and_among_others(
    worlds: ModuleType, stack: str, objective: Any
) -> None:
    layers: dict[str, list[Defender]] = {
        "": [],
        "noise": [worlds.Noise(0.1)],
        "memory": [worlds.warden("game", random=True)],
        "all": [worlds.Noise(0.1), worlds.warden("account"), worlds.Flip(0.1)],
    }
    threat = Threat(epsilon=2 / 16, budget=25, objective=objective)
    together = transcripts(worlds, layers[stack], [0, 1, 2, 3, 4], threat=threat)
    assert sum(map(len, together.values())) > 30
    for places in ([3, 1, 0, 4, 2], [2, 0], [1]):
        assert transcripts(worlds, layers[stack], places, threat=threat).items() <= together.items()
    for of in (worlds.classifier(batch=1), worlds.classifier(batch=3)):
        assert transcripts(worlds, layers[stack], [0, 1, 2, 3, 4], threat=threat, of=of) == together


def test_volleys_may_be_cut_anywhere(worlds: ModuleType) -> None:
    whole = transcripts(worlds, [worlds.Noise(0.1)], [0, 1, 2, 3, 4])
    for max_rows in (2, 3, 7):
        assert transcripts(worlds, [worlds.Noise(0.1)], [0, 1, 2, 3, 4], max_rows=max_rows) == whole


# The monitor


def layers_of(worlds: ModuleType) -> dict[str, list[Defender]]:
    return {
        "bare": [],
        "random": [worlds.Noise(0.1), worlds.Flip(0.3)],
        "memory": [worlds.Noise(0.1), worlds.warden("account", random=True)],
    }


@pytest.mark.parametrize("stack", ["bare", "random", "memory"])
@pytest.mark.parametrize("objective", ["first", "submit", "minimum"])
def test_a_monitor_changes_nothing_that_is_played(worlds: ModuleType, stack: str, objective: Any) -> None:
    threat = Threat(epsilon=2 / 16, budget=25, objective=objective)
    plain, watched = (
        transcripts(worlds, layers_of(worlds)[stack], [0, 1, 2, 3, 4], threat=threat, monitored=monitored)
        for monitored in (False, True)
    )
    assert plain == watched


@pytest.mark.parametrize("stack", ["bare", "random", "memory"])
@pytest.mark.parametrize("target", [None, [1, 2]])
def test_the_monitor_tells_the_undefended_margin_of_what_was_answered(
    worlds: ModuleType, stack: str, target: list[int] | None
) -> None:
    sent: list[Tensor] = []

    def script(games: Games) -> Play:
        both = torch.arange(2)
        for step in range(2):
            steps = [0.2 * (step + 1) * games.normal(games.x0.shape[1:], both) for _ in range(2)]
            sent.append(torch.cat([games.x0 + one for one in steps]).clamp(0, 1))
            yield from games.ask(sent[-1].clone(), both.repeat(2))

    goal = "untargeted" if target is None else "targeted"
    threat = Threat(epsilon=1.0, budget=3, objective="submit", quantisation="round", goal=goal)
    how = {"threat": threat, "target": target, "monitored": True}
    rows, record = worlds.played(script, defenders=layers_of(worlds)[stack], **how)
    assert rows.queries.tolist() == [3, 3]
    base, goals = (
        worlds.classifier(),
        torch.from_numpy(rows.label) if target is None else torch.tensor(target),
    )
    wave = [2, 2, 2] if stack == "memory" else [4, 2]  # of a volley to a memory each row a game is a wave
    assert [len(part) for part in record.query_rows] == wave
    for part in record.query_rows:
        place = [int(2 * ((turn - 1) % 2) + game) for turn, game in zip(part.turn, part.game, strict=True)]
        x = torch.stack([sent[int(turn > 2)][row] for turn, row in zip(part.turn, place, strict=True)])
        scores = base(quantise(x, "round"))
        wanted = attack_loss(scores, goals[part.game], "margin", targeted=target is not None, logits=True)
        assert part.margin_base is not None
        assert part.margin_base.tolist() == wanted.tolist()
        if stack == "bare":
            assert part.margin_base.tolist() == part.margin.tolist()
    differ = [(part.margin_base != part.margin).any() for part in record.query_rows]
    assert any(differ) == (stack != "bare")


def test_without_a_monitor_the_classifier_is_not_asked_for_it(
    worlds: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = StackOracle.base_scores
    monkeypatch.setattr(StackOracle, "base_scores", lambda self, x: asked.append(len(x)) or real(self, x))
    for stack, monitored, wanted in (("random", False, []), ("bare", True, []), ("random", True, [5])):
        asked.clear()
        transcripts(worlds, layers_of(worlds)[stack], [0, 1, 2, 3, 4], monitored=monitored)
        assert asked[:1] == wanted, "where nothing defends, what was answered is told again"


# The two halves


@pytest.mark.parametrize("quantisation", ["none", "round"])
def test_receive_and_release_are_an_answer_in_two_halves(worlds: ModuleType, quantisation: Any) -> None:
    threat = Threat(epsilon=2 / 16, budget=5, quantisation=quantisation, objective="submit")
    whole, record = worlds.referee([worlds.Noise()], threat=threat)
    halves, in_halves = worlds.referee([worlds.Noise()], threat=threat)
    x, game = worlds.images([(8, 5, 8, 4), (4, 12, 5, 8), (7, 5, 8, 4)]), torch.tensor([0, 1, 0])
    expected = whole.ask(Volley(x.clone(), game.clone(), None, "p"))
    pending = halves.receive(Volley(x, game, None, "p"))
    x.zero_()  # the attacker may go on writing to its own
    game.zero_()
    answers = halves.release(pending, halves.oracle.respond(pending.x, pending.rows))
    assert answers.scores.tolist() == expected.scores.tolist()
    assert answers.game.tolist() == [0, 1, 0]
    assert list(worlds.log_of(in_halves)) == list(worlds.log_of(record))
    assert halves.finish().final.tolist() == whole.finish().final.tolist()


def test_halves_let_a_defender_remember_only_what_was_kept(worlds: ModuleType) -> None:
    referee, _ = worlds.referee([worlds.warden("game")], threat=Threat(epsilon=2 / 16, budget=2))
    x, game = worlds.images([(8, 4, 8, 4), (4, 12, 4, 8)])[[0, 0, 1, 0, 0]], torch.tensor([0, 0, 1, 0, 0])
    pending, waves = referee.receive(Volley(x, game)), []
    while isinstance(pending, Wave):
        waves.append(pending.rows.game.tolist())
        pending = referee.release(pending, referee.oracle.respond(pending.x, pending.rows))
    assert waves == [[0, 1], [0]]
    assert referee.granted == 3
    assert pending.left.tolist() == [0, 1]
    charged = pending.answered | pending.refused
    assert charged.tolist() == [True, True, True, False, False]
    assert [line[:2] for line in referee.oracle._memories[0].trace] == [(0, 1), (1, 1), (0, 2)]


def test_rows_of_closed_games_are_not_put_to_a_defender_with_memory(worlds: ModuleType) -> None:
    asked = []

    class Counting(type(worlds.warden("game"))):  # type: ignore[misc]
        def respond(self, x: Tensor, rows: Any, inner: Any) -> Any:
            asked.append(rows.game.tolist())
            return super().respond(x, rows, inner)

    referee, _ = worlds.referee([Counting()], threat=Threat(epsilon=2 / 16, budget=2))
    referee.serve(Resign(torch.tensor([1])))
    asked.clear()
    referee.serve(Volley(referee.board.x0[[0, 1, 0, 1, 0]], torch.tensor([0, 1, 0, 1, 0])))
    assert asked == [[0], [0], [0]], "two waves, and once more by the Referee, for `again`"


def test_a_defender_that_writes_to_its_images_does_not_write_to_the_attackers(worlds: ModuleType) -> None:
    class Writing(worlds.Flip):  # type: ignore[misc,name-defined]
        def transform(self, x: Tensor, rows: Any) -> Tensor:
            return x.add_(0.25)

    referee, _ = worlds.referee([Writing()])
    seat = referee.seat()
    before = seat.x0.clone()
    referee.serve(Volley(seat.x0, torch.arange(2)))
    assert seat.x0.equal(before)
    assert referee.board.x0.equal(before)


@pytest.mark.parametrize("trust", [False, True])
def test_a_threat_may_have_attackers_trust_answers_that_are_no_facts(worlds: ModuleType, trust: bool) -> None:
    """Only the seat is told otherwise: what the attacker claims is what is judged."""

    class Coin(Defender):
        random = True

    rules: dict[str, Any] = {"budget": 9, "trust_answers": trust, "objective": "submit"}
    referee, _ = worlds.referee([Coin()], threat=Threat(epsilon=2 / 16, **rules))
    assert referee.seat().answers_are_facts is trust
    far = (referee.board.x0 + 1 / 16).clamp(0, 1)
    referee.serve(Claim(far, torch.arange(referee.games)))
    assert torch.equal(referee.board.best, far)


def test_a_clean_image_is_charged(worlds: ModuleType) -> None:
    referee, _ = worlds.referee()
    answers = referee.serve(Volley(referee.board.x0, torch.arange(2)))
    assert answers.left.tolist() == [9, 9]


# Insiders


@pytest.mark.parametrize(
    ("knowledge", "detector", "gradient"),
    [("none", False, False), ("defense", False, False), ("detector", True, False), ("weights", True, True)],
)
def test_insiders_are_served_as_their_knowledge_allows_and_metered(
    worlds: ModuleType, knowledge: Any, detector: bool, gradient: bool
) -> None:
    class Watched(worlds.Flip):  # type: ignore[misc,name-defined]
        def detector(self, x: Tensor, classifier: Any) -> Tensor:
            return x.flatten(1).sum(dim=1)

    referee, record = worlds.referee([Watched()], threat=Threat(epsilon=1, budget=3, knowledge=knowledge))
    x, game = worlds.images([(8, 4, 8, 4)] * 3), torch.tensor([1, 0, 1])
    evaluations = 0
    for what, allowed in (("detector", detector), ("gradient", gradient)):
        consult = Consult(x, game, what)  # type: ignore[arg-type]
        if not allowed:
            with pytest.raises(
                VolleyError, match=f'^knowledge "{knowledge}" does not allow to consult the {what}$'
            ):
                referee.serve(consult)
            continue
        answers = referee.serve(consult)
        evaluations += 1
        assert answers.insight is not None
        assert answers.insight.shape == (x.shape if what == "gradient" else (3,))
        assert (answers.loss is None) == (what == "detector")
        assert answers.left.tolist() == [3, 3]
    assert referee.finish().insider_queries.tolist() == [evaluations, 2 * evaluations]
    assert record.query_rows == []


@pytest.mark.parametrize("targeted", [False, True])
def test_an_insiders_gradient_is_that_of_its_games_loss(worlds: ModuleType, targeted: bool) -> None:
    """Of the classifier alone: of z_0 - z_1 = 8 (x_0 - x_1) in game 0, and of its negative in game 1."""
    rules: dict[str, Any] = {"goal": "targeted"} if targeted else {}
    referee, _ = worlds.referee(
        [worlds.Flip(1.0)],
        threat=Threat(epsilon=1, budget=3, knowledge="weights", **rules),
        x0=worlds.images([(8, 6, 4, 8), (6, 8, 4, 8)]),
        target=[1, 0] if targeted else None,
        of=worlds.smooth(),
    )
    answers = referee.serve(Consult(referee.board.x0, torch.arange(2), "gradient"))
    assert answers.insight is not None
    own = torch.tensor([[8.0, -8, 0, 0], [-8, 8, 0, 0]])
    assert answers.insight.flatten(1).equal(own)
    assert answers.loss is not None
    assert answers.loss.tolist() == [1, 1]


# New games in the places of ended ones


def test_a_game_dealt_anew_begins_anew(worlds: ModuleType) -> None:
    threat = Threat(epsilon=2 / 16, budget=3, goal="targeted", objective="submit")
    referee, record = worlds.referee([worlds.Flip(0.5)], threat=threat, target=[2, 2], key=[7, 8], at=[2])
    referee.serve(Volley(referee.board.x0.repeat(3, 1, 1, 1), torch.arange(2).repeat(3)))
    first = referee.end(torch.tensor([0]).numpy())
    heard = len(record.mark_rows)
    dealt = worlds.deal(worlds.images([(4, 10, 8, 8)]), [1], key=[99], target=[0])
    referee.redeal(torch.tensor([0]).numpy(), dealt)
    assert record.mark_rows[heard].game.tolist() == [0]
    assert record.mark_rows[heard].at == 0
    answers = referee.serve(Volley(dealt.x0, torch.tensor([0])))
    assert answers.left.tolist() == [2, 0]
    assert answers.open.tolist() == [True, False]
    alone, other = worlds.referee(
        [worlds.Flip(0.5)], threat=threat, x0=dealt.x0, label=[1], target=[0], key=[99], at=[2]
    )
    alone.serve(Volley(dealt.x0, torch.tensor([0])))
    assert list(worlds.log_of(record))[-1] == list(worlds.log_of(other))[-1]
    rows, expected = referee.end(torch.tensor([0]).numpy()), alone.finish()
    for name in (
        "key",
        "label",
        "target",
        "queries",
        "vote",
        "base",
        "answered",
        "hit_at",
        "final",
        "reason",
    ):
        assert str(getattr(rows, name)) == str(getattr(expected, name)), name
    assert first.key.tolist() == [7]
    assert first.queries.tolist() == [3]


@pytest.mark.parametrize(("shape", "rows"), [((1, 8, 8), 4096), ((3, 32, 32), 4096), ((3, 224, 224), 891)])
def test_the_longest_volley_is_bounded_by_the_size_of_its_images(shape: tuple[int, ...], rows: int) -> None:
    assert longest_volley(shape) == rows
    assert rows * math.prod(shape) * 4 <= 2**29
