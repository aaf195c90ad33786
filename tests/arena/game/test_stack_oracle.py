"""Stacks of defenders: who acts when, with which draws and memory; and what the outside sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, ClassVar, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.conformance.tiny_worlds import tiny_world
from arena.game.blame import DefenderError
from arena.game.stack import Stack, prepare
from arena.game.stack_oracle import StackOracle
from arena.players import Defender, Response, Rows
from arena.rules.feedback import shown
from arena.rules.losses import attack_loss
from arena.rules.outcome import labels_of, wins

NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Affine(Defender):
    """Images x -> clamp(x + shift), scores s -> factor s + add; says in which order it was used."""

    factor: float = 1
    add: float = 0
    shift: float = 0
    order: list[str] = field(default_factory=list)
    name: str = ""

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        self.order.append(f"{self.name} in")
        return x + self.shift

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        self.order.append(f"{self.name} out")
        return scores * self.factor + self.add


@dataclass(frozen=True)
class Twice(Defender):
    """Asks the rest of the stack twice and answers with the mean."""

    random: ClassVar[bool] = True

    def respond(self, x: Tensor, rows: Rows, inner: Callable[[Tensor, Rows], Response]) -> Response:
        scores = inner(x.repeat_interleave(2, 0), rows.repeat(2)).scores
        return Response(scores.view(len(x), 2, -1).mean(dim=1))


@dataclass(frozen=True)
class Diary(Defender):
    """Adds a draw to the scores and writes all that it is told to remember into a list."""

    random: ClassVar[bool] = True
    memory: ClassVar[Literal["none", "game", "account", "service"]] = "game"

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> list[Any]:
        return []

    def respond(self, x: Tensor, rows: Rows, inner: Callable[[Tensor, Rows], Response]) -> Response:
        response = inner(x, rows)
        return replace(response, scores=response.scores + rows.uniform(()).unsqueeze(1))

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        draws = torch.as_tensor(rows.draw).expand(len(rows))
        lines = zip(rows.game.tolist(), rows.turn.tolist(), draws.tolist(), strict=True)
        rows.memory.extend(
            (*line, x[n].sum().item(), response.scores[n, 0].item()) for n, line in enumerate(lines)
        )


@pytest.fixture
def x(worlds: ModuleType) -> Tensor:
    found: Tensor = worlds.images([(k % 16, (3 * k) % 16, (5 * k) % 16, (7 * k) % 16) for k in range(11)])
    return found


def rows_for(x: Tensor, turn: int = 1) -> Rows:
    n = torch.arange(len(x))
    return Rows(game=n, key=n + 100, turn=torch.full_like(n, turn), account=n * 0, place=n)


def oracle(
    of: Classifier, *defenders: Defender, seed: int = 0, games: int = 16, rows: int = 1024
) -> StackOracle:
    return StackOracle(Stack(of, defenders), seed=seed, games=games, accounts=1, rows=rows)


def test_first_listed_defender_is_outermost(worlds: ModuleType, x: Tensor) -> None:
    order: list[str] = []
    outer = Affine(factor=2, shift=0.25, order=order, name="outer")
    inner = Affine(add=1, shift=0.125, order=order, name="inner")
    of = worlds.classifier()
    found = oracle(of, outer, inner).respond(x * 0.5, rows_for(x)).scores
    assert order == ["outer in", "inner in", "inner out", "outer out"]
    assert torch.equal(found, (of(x * 0.5 + 0.375) + 1) * 2)


def test_prepare_hardens_and_fits_from_the_inside_out(worlds: ModuleType) -> None:
    said: list[tuple[str, str]] = []

    @dataclass(frozen=True)
    class Preparing(Defender):
        name: str
        fitted_to: str = ""

        def harden(self, classifier: Classifier, splits: Any) -> Classifier:
            said.append((f"harden {self.name}", classifier.name))
            return Classifier(
                classifier.module, shape=worlds.SHAPE, classes=3, name=classifier.name + self.name
            )

        def fit(self, classifier: Classifier, splits: Any) -> Preparing:
            said.append((f"fit {self.name}", classifier.name))
            return replace(self, fitted_to=classifier.name)

    plain = Classifier(worlds.Exact(), shape=worlds.SHAPE, classes=3, name="f")
    stack = prepare(plain, [Preparing("A"), Preparing("B")], tiny_world(0, "cpu"))
    assert said == [("harden B", "f"), ("harden A", "fB"), ("fit B", "fBA"), ("fit A", "fBA")]
    assert stack.base.name == "fBA"
    assert stack.defenders == (Preparing("A", "fBA"), Preparing("B", "fBA"))


@pytest.mark.parametrize("batch", [1, 2, 4, 11])
def test_pieces_give_the_answers_of_one_piece_bit_for_bit(worlds: ModuleType, x: Tensor, batch: int) -> None:
    stack = [worlds.Noise(0.1), worlds.warden("game", random=True), Diary()]
    whole, cut = (oracle(worlds.classifier(batch=b), *stack, seed=3, rows=b) for b in (256, batch))
    for turn in (1, 2):
        rows = rows_for(x, turn)
        expected, found = whole.respond(x, rows), cut.respond(x, rows)
        for name in ("scores", "declined", "refused", "flagged", "banned"):
            assert torch.equal(getattr(found, name).nan_to_num(), getattr(expected, name).nan_to_num()), name
        kept = torch.arange(len(x)) % 3 != turn
        whole.commit(kept)
        cut.commit(kept)
    assert cut._memories[1].trace == whole._memories[1].trace
    assert cut._memories[2] == whole._memories[2]


def test_every_layer_has_seed_and_memory_of_its_own(worlds: ModuleType, x: Tensor) -> None:
    of = worlds.classifier()
    asked = oracle(of, Diary(), Diary(), seed=5)
    rows = rows_for(x)
    both = asked.respond(x, rows).scores
    asked.commit(torch.ones(len(x), dtype=torch.bool))
    outer, inner = asked._memories
    assert [line[:4] for line in outer] == [line[:4] for line in inner]
    assert torch.equal(torch.tensor([line[4] for line in outer]), both[:, 0])
    first = torch.tensor([line[4] for line in inner]) - of(x)[:, 0]
    second = torch.tensor([line[4] for line in outer]) - torch.tensor([line[4] for line in inner])
    assert (first - second).abs().min() > 1e-4
    assert not torch.equal(
        oracle(of, Diary(), seed=6).respond(x, rows).scores,
        oracle(of, Diary(), seed=5).respond(x, rows).scores,
    )


@pytest.mark.parametrize(("batch", "pieces"), [(8, [1024, 976]), (1500, [1500, 500])])
def test_a_classifier_that_takes_more_rows_at_once_gets_them(
    worlds: ModuleType, batch: int, pieces: list[int]
) -> None:
    class Counts(Defender):
        def transform(self, x: Tensor, rows: Rows) -> Tensor:
            asked.append(len(x))
            return x

    asked: list[int] = []
    x = worlds.images([(1, 2, 3, 4)]).expand(2000, -1, -1, -1)
    StackOracle(Stack(worlds.classifier(batch=batch), (Counts(),)), games=2000).respond(x, rows_for(x))
    assert asked == pieces


def test_only_kept_rows_are_remembered_and_only_once(worlds: ModuleType, x: Tensor) -> None:
    asked = oracle(worlds.classifier(), Diary(), rows=4)
    asked.respond(x, rows_for(x))
    assert asked._memories[0] == []
    kept = torch.arange(len(x)) % 2 == 0
    asked.commit(kept)
    assert [line[0] for line in asked._memories[0]] == [0, 2, 4, 6, 8, 10]
    asked.commit(kept)
    assert len(asked._memories[0]) == 6
    asked.respond(x, rows_for(x))
    asked.respond(x, rows_for(x, turn=2))  # what was not committed is forgotten
    asked.commit(kept)
    assert [line[1] for line in asked._memories[0]] == [1] * 6 + [2] * 6


@pytest.mark.parametrize("batch", [1, 3, 256])
def test_a_layer_that_is_asked_twice_draws_and_remembers_twice(
    worlds: ModuleType, x: Tensor, batch: int
) -> None:
    asked = oracle(worlds.classifier(), Twice(), Diary(), games=11, rows=batch)
    asked.respond(x, rows_for(x))
    asked.commit(torch.arange(len(x)) < 2)
    lines = asked._memories[1]
    assert [line[:3] for line in lines] == [(0, 1, 0), (0, 1, 1), (1, 1, 0), (1, 1, 1)]
    assert lines[0][4] != lines[1][4]


def test_fresh_answers_have_other_draws_and_leave_no_trace(worlds: ModuleType, x: Tensor) -> None:
    asked = oracle(worlds.classifier(), Diary())
    rows = rows_for(x)
    played = asked.respond(x, rows).scores
    fresh = asked.fresh(x, rows).scores
    assert (played - fresh).nan_to_num(1).abs().min() > 1e-5
    assert torch.equal(asked.fresh(x, rows).scores.nan_to_num(), fresh.nan_to_num())
    asked.commit(torch.ones(len(x), dtype=torch.bool))
    assert torch.equal(
        torch.tensor([line[4] for line in asked._memories[0]]).nan_to_num(), played[:, 0].nan_to_num()
    )


def test_no_rows_get_an_empty_answer_and_no_defender_is_asked(worlds: ModuleType, x: Tensor) -> None:
    order: list[str] = []
    asked = oracle(worlds.classifier(), Affine(order=order), Diary())
    assert list(asked.respond(x[:0], rows_for(x[:0])).scores.shape) == [0, 3]
    asked.commit(torch.zeros(0, dtype=torch.bool))
    assert order == []


@pytest.mark.parametrize(
    ("defenders", "is_random", "stateful"), [("", 0, 0), ("r", 1, 0), ("m", 0, 1), ("rm", 1, 1)]
)
def test_a_stack_is_random_or_stateful_where_one_defender_is(
    worlds: ModuleType, defenders: str, is_random: bool, stateful: bool
) -> None:
    kinds = {"r": worlds.Noise(), "m": worlds.warden("service")}
    found = oracle(worlds.classifier(), Affine(), *[kinds[d] for d in defenders])
    assert (found.random, found.stateful) == (bool(is_random), bool(stateful))


# What the outside sees


@given(
    st.lists(st.lists(st.integers(-3, 3).map(float), min_size=6, max_size=6), min_size=1, max_size=4),
    st.integers(1, 8),
)
def test_topk_shows_the_best_classes_and_among_equals_the_lowest(rows: list[list[float]], k: int) -> None:
    scores = torch.tensor(rows)
    found = shown(scores, f"topk:{k}", k)
    assert found is not None
    p = scores.double().softmax(dim=1)
    for n, row in enumerate(rows):
        visible = sorted(range(6), key=lambda c: (-row[c], c))[:k]
        expected = torch.zeros(6, dtype=torch.float64)
        expected[visible] = p[n, visible]
        torch.testing.assert_close(found[n].double(), expected, rtol=1e-5, atol=1e-7)
        assert found[n, scores[n].argmax()] > 0


def test_infinite_logits_share_all_probability() -> None:
    scores = torch.tensor([[INF, 3.0, 0.0, -INF], [0.0, INF, INF, 2.0], [-INF, 0.0, 0.0, -INF]])
    expected = torch.tensor([[1.0, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0.5, 0.5, 0]])
    assert torch.equal(shown(scores, "probabilities", None), expected)  # type: ignore[arg-type]
    assert torch.equal(shown(scores, "topk:2", 2), expected)  # type: ignore[arg-type]
    assert shown(scores, "logits", None) is scores


@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_topk_of_equals_shows_the_lowest_of_many_classes(classes: int) -> None:
    found = shown(torch.zeros(3, classes), "topk:5", 5)
    assert found is not None
    assert [row.nonzero().flatten().tolist() for row in found] == [[0, 1, 2, 3, 4]] * 3


def test_topk_shows_the_label_where_probabilities_are_rounded_to_equals() -> None:
    scores = torch.tensor([[1e-9, 2e-9, 0.0]])
    assert scores.softmax(dim=1)[0, 0] == scores.softmax(dim=1)[0, 1]
    found = shown(scores, "topk:1", 1)
    assert found is not None
    assert (found > 0).tolist() == [[False, True, False]]


def test_other_feedback_shows_all_or_nothing() -> None:
    scores = torch.tensor([[0.0, 3.0, -800.0]])
    assert shown(scores, "label", None) is None
    logits, p = shown(scores, "logits", None), shown(scores, "probabilities", None)
    assert logits is not None
    assert p is not None
    assert torch.equal(logits, scores)
    torch.testing.assert_close(p.double(), scores.double().softmax(dim=1), rtol=1e-6, atol=1e-30)


def test_a_declined_answer_never_wins() -> None:
    label, y = torch.tensor([-1, 0, 1, 2]), torch.tensor([1, 1, 1, 1])
    assert wins(label, y, None).tolist() == [False, True, False, True]
    assert wins(label, y, torch.tensor([2, 2, 2, 2])).tolist() == [False, False, False, True]


# Insiders


@pytest.fixture
def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(), nn.Flatten(), nn.Linear(4, 3)
    ).eval()


@pytest.mark.parametrize("loss", ["margin", "cross-entropy"])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("batch", [2, 256])
def test_gradient_is_that_of_the_attackers_loss(
    small_net: nn.Module, x: Tensor, loss: Any, targeted: bool, batch: int
) -> None:
    of = Classifier(small_net, shape=(1, 2, 2), classes=3, batch=batch)
    y = torch.arange(len(x)) % 3
    target = (y + 1) % 3 if targeted else None
    found, value = oracle(of).gradient(x, y if target is None else target, loss, targeted=target is not None)
    assert not found.requires_grad and not value.requires_grad
    wins = y if target is None else target
    exact = attack_loss(small_net(x), wins, loss, targeted=targeted, logits=True)
    torch.testing.assert_close(value, exact.detach())
    step, doubled = 1e-5, small_net.double()
    for pixel in range(4):
        ahead = torch.zeros(4, dtype=torch.float64).index_fill_(0, torch.tensor(pixel), step).view(1, 1, 2, 2)
        of_pixel = [
            attack_loss(doubled(x.double() + d), wins, loss, targeted=targeted, logits=True)
            for d in (ahead, -ahead)
        ]
        expected = (of_pixel[0] - of_pixel[1]) / (2 * step)
        torch.testing.assert_close(found.flatten(1)[:, pixel].double(), expected, rtol=1e-4, atol=1e-5)


def test_gradient_works_without_grad_mode_and_for_no_rows(small_net: nn.Module, x: Tensor) -> None:
    asked = oracle(Classifier(small_net, shape=(1, 2, 2), classes=3))
    y = torch.zeros(len(x), dtype=torch.int64)
    expected = asked.gradient(x, y, "margin", targeted=False)
    with torch.no_grad():
        again = asked.gradient(x, y, "margin", targeted=False)
    assert torch.equal(again[0], expected[0]) and torch.equal(again[1], expected[1])
    none = asked.gradient(x[:0], y[:0], "margin", targeted=False)
    assert [part.shape for part in none] == [x[:0].shape, (0,)]
    assert not x.requires_grad
    assert all(p.grad is None for p in small_net.parameters())


def test_detector_is_that_of_the_outermost_defender_that_has_one(worlds: ModuleType, x: Tensor) -> None:
    @dataclass(frozen=True)
    class Detector(Defender):
        factor: float

        def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
            return classifier(x)[:, 1] * self.factor

    of = worlds.classifier()
    asked = oracle(of, Affine(), Detector(2), Detector(3))
    assert torch.equal(asked.detector(x), of(x)[:, 1] * 2)
    assert asked.detector(x[:0]).shape == (0,)
    with pytest.raises(NotImplementedError, match="no defender of this stack has a detector"):
        oracle(of, Affine()).detector(x)


def test_base_verdict_asks_the_classifier_alone(worlds: ModuleType, x: Tensor) -> None:
    of = worlds.classifier()
    asked = oracle(of, worlds.Flip(1.0))
    assert asked.base_labels(x).tolist() == labels_of(of(x)).tolist()


@dataclass(frozen=True)
class Answering(Defender):
    """Answers whatever `make` makes of the scores."""

    make: Callable[[Tensor], Any] = Response

    def respond(self, x: Tensor, rows: Rows, inner: Callable[[Tensor, Rows], Response]) -> Response:
        answer: Response = self.make(inner(x, rows).scores)
        return answer


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s: s, "must answer a Response; found Tensor"),
        (lambda s: None, "must answer a Response; found NoneType"),
        (
            lambda s: Response(s.double()),
            r"must be torch.float32 \[11, 3\] on cpu; found torch.float64",
        ),
        (lambda s: Response(s[:, :2]), r"found torch.float32 \[11, 2\]"),
        (lambda s: Response(s[:4]), r"found torch.float32 \[4, 3\]"),
        (lambda s: Response(s, refused=s > 0), r"refused must be torch.bool \[11\] on cpu"),
        (
            lambda s: Response(s, flagged=s[:, 0]),
            r"flagged must be torch.bool \[11\] on cpu; found",
        ),
        (lambda s: Response(s, banned=True), "banned must be a plain tensor; found bool"),
    ],
)
def test_an_answer_of_another_form_is_the_defenders_fault(
    worlds: ModuleType, x: Tensor, make: Callable[[Tensor], Any], said: str
) -> None:
    with pytest.raises(DefenderError, match=said):
        oracle(worlds.classifier(), Answering(make)).respond(x, rows_for(x))


def test_what_prepares_itself_into_something_else_is_told_so(worlds: ModuleType) -> None:
    class Lost(Defender):
        def harden(self, classifier: Any, splits: Any) -> Any:
            return None

    class Gone(Defender):
        def fit(self, classifier: Any, splits: Any) -> Any:
            return None

    with pytest.raises(DefenderError, match=r"Lost.harden must return a Classifier; found NoneType"):
        prepare(worlds.classifier(), [Lost()], tiny_world(0, "cpu"))
    with pytest.raises(DefenderError, match=r"Gone.fit must return a Defender; found NoneType"):
        prepare(worlds.classifier(), [Gone()], tiny_world(0, "cpu"))


def test_a_defender_that_works_in_place_changes_nothing_that_is_kept(worlds: ModuleType, x: Tensor) -> None:
    class InPlace(Defender):
        def transform(self, x: Tensor, rows: Rows) -> Tensor:
            return x.add_(0.25)

    before = x.clone()
    oracle(worlds.classifier(), InPlace()).respond(x, rows_for(x))
    assert torch.equal(x, before)
