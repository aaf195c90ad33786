"""What surrounds a call reaches nothing that is computed in it, and is there again afterwards."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import arena
from arena.classifiers import Classifier
from arena.cli.app import app
from arena.envs import ID
from arena.modes import in_own_modes, own_modes
from arena.players import Attacker, Games, Needs, Play
from arena.players.registry import build_attacker, names


@contextmanager
def set_to(get: Callable[[], Any], put: Callable[[Any], Any], value: Any) -> Iterator[None]:
    before = get()
    put(value)
    try:
        yield
        assert get() == value, "the caller's own setting was not put back"
    finally:
        put(before)


def flag(owner: Any, name: str, value: Any) -> AbstractContextManager[None]:
    return set_to(partial(getattr, owner, name), partial(setattr, owner, name), value)


def flushes() -> bool:
    return bool(torch.tensor(2.0**-149).mul(1) == 0)


BACKENDS: Any = torch.backends
SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: set_to(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "device meta": lambda: torch.device("meta"),
    "default device": lambda: set_to(
        lambda: "meta" if torch.empty(0).is_meta else None, torch.set_default_device, "meta"
    ),
    "medium": lambda: set_to(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"
    ),
    "convolutions in bf16": lambda: flag(BACKENDS.mkldnn.conv, "fp32_precision", "bf16"),
    "products in bf16": lambda: flag(BACKENDS.mkldnn.matmul, "fp32_precision", "bf16"),
    "all in tf32": lambda: flag(BACKENDS, "fp32_precision", "tf32"),
    "no subnormals": lambda: set_to(flushes, torch.set_flush_denormal, True),
    "numpy raises": lambda: np.errstate(all="raise"),
}
by_surroundings = pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS)


def computed() -> Tensor:
    """What each of the surroundings changes, or cannot do."""
    generator = torch.Generator("cpu").manual_seed(0)
    weight, x = (torch.empty(shape).normal_(generator=generator) for shape in ((64, 64), (64, 64)))
    x.requires_grad_(True)
    kernel = weight.view(-1, 4, 4, 4)[:16]
    made = torch.nn.functional.conv2d((x @ weight).view(4, 4, 16, 16), kernel)
    (gradient,) = torch.autograd.grad(made.square().sum(), x)
    small = torch.tensor(2.0**-149) * torch.ones(8)
    infinite = torch.from_numpy(np.log(np.zeros(1)))
    return torch.cat([made.detach().flatten(), gradient.flatten(), small, infinite.float()])


@by_surroundings
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_within_all_is_as_in_a_fresh_process(surroundings: Callable[[], AbstractContextManager[Any]]) -> None:
    assert in_own_modes()
    expected = computed()
    with surroundings():
        assert not in_own_modes()
        with own_modes():
            assert in_own_modes()
            assert torch.equal(computed(), expected)
        assert not in_own_modes()
    assert in_own_modes()


def test_modes_that_a_failure_leaves_are_put_back() -> None:
    with pytest.raises(KeyError), torch.no_grad(), own_modes():
        raise KeyError
    assert in_own_modes()


class Network(nn.Module):
    """Convolutions, BatchNorm and a linear layer, with fixed random weights."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten()
        )
        self.last = nn.Linear(64, 4)
        for tensor in (*self.layers[0].parameters(), *self.layers[2].parameters(), *self.last.parameters()):
            size = tensor[0].numel() ** 0.5 if tensor.dim() > 1 else torch.inf
            tensor.data = torch.randn(tensor.shape, generator=generator) * (2 / size)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.layers(x - 0.5))
        return found


NETWORK = Network()
IMAGES = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(2)) * 0.6 + 0.2
LABELS = NETWORK(IMAGES).argmax(dim=1)
WRAPPED = Classifier.of(NETWORK, sample=IMAGES, device="cpu")
OTHERS = torch.rand(24, 1, 6, 6, generator=torch.Generator().manual_seed(3)) * 0.6 + 0.2
SHORT = {
    "carlini-wagner": {"iterations": 8, "search_steps": 1, "initial_c": 10.0, "learning_rate": 0.1},
    "pgd": {"steps": 5, "restarts": 1},
    **{name: {"of": "square"} for name in ("account-rotation", "eot", "race", "unfold")},
    **{name: {"of": "sign-flip"} for name in ("jitter", "query-blinding", "uncertainty-aware", "vote")},
    "aaa-linear": {"kappa": 5},
}
"""Parameters by name: what an agent must be given, and less work than by default."""


def played(
    attacker: str, *defenders: str, images: Any = IMAGES, labels: Any = LABELS, of: Any = NETWORK
) -> list[Any]:
    """All that a match of 20 queries a game reports; agents are named, with the parameters of `SHORT`."""
    attacker, *stack = ({"name": name, **SHORT.get(name, {})} for name in (attacker, *defenders))
    needs = build_attacker(attacker).needs
    threat = {
        "norm": needs.norms[0],
        "epsilon": 0.4 if needs.norms[0] == "linf" else 1.0,
        "budget": 20,
        "feedback": "label" if needs.feedback == "label" else "logits",
        "objective": needs.objectives[-1],
        "knowledge": needs.knowledge,
        "resources": {"images": needs.images, "starts": needs.starts == "always"},
    }
    own = (OTHERS, NETWORK(OTHERS).argmax(dim=1))
    result = arena.play(
        attacker,
        stack or "none",
        classifier=of,
        images=images,
        labels=labels,
        threat=threat,
        train=own,
        calibration=own,
        resources=own,
        surrogates=[NETWORK] * needs.surrogates,
        at=[10],
        votes=3,
        keep_rows=True,
        device="cpu",
    )
    assert not {"error", "stalled"} & {*result.reason}
    assert result.queries.any()
    rows = [getattr(part, field) for part in result.rows for field in ("game", "label", "margin", "l2")]
    return [result.images, result.vote, result.queries, result.games.l2, *rows]


def equal(one: list[Any], other: list[Any]) -> bool:
    pairs = itertools.zip_longest(one, other)
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


@contextmanager
def hostile() -> Iterator[None]:
    """Several surroundings at once."""
    with ExitStack() as stack:
        for kind in ("inference", "autocast", "float64", "default device", "medium", "numpy raises"):
            stack.enter_context(SURROUNDINGS[kind]())
        yield


@by_surroundings
def test_a_match_is_the_same_to_the_bit(surroundings: Callable[[], AbstractContextManager[Any]]) -> None:
    expected = played("square", "snd")
    with surroundings():
        found = played("square", "snd")
    assert equal(found, expected)


INSIDERS = {"bypass-fq", "bypass-fq-sign-flip"}  # of defenders with a detector; they are HopSkipJump


@pytest.mark.parametrize("name", sorted({*names("attacker")} - INSIDERS))
def test_every_attacker_plays_the_same_in_hostile_surroundings(name: str) -> None:
    expected = played(name, of=WRAPPED)
    with hostile():
        found = played(name, of=WRAPPED)
    assert equal(found, expected)


def test_a_defender_prepares_itself_the_same_in_hostile_surroundings() -> None:
    expected = played("square", "aaa-linear")
    with hostile():
        found = played("square", "aaa-linear")
    assert equal(found, expected)


def test_a_utility_is_the_same_in_hostile_surroundings() -> None:
    def measured() -> Any:
        return arena.evaluate(NETWORK, "snd", images=IMAGES, labels=LABELS.tolist(), cost=False, device="cpu")

    expected = measured()
    with hostile():
        assert repr(measured()) == repr(expected)


@pytest.mark.parametrize("arrays", ["numpy", "torch"])
def test_an_environment_steps_the_same_in_hostile_surroundings(arrays: str) -> None:
    def walked() -> list[Any]:
        environment = gymnasium.make(
            ID,
            classifier=NETWORK,
            images=IMAGES,
            labels=LABELS.tolist(),
            defender="snd",
            threat={"epsilon": 0.2, "budget": 4, "objective": "minimum"},
            seed=0,
            arrays=arrays,
            device="cpu",
            disable_env_checker=True,
        )
        rng, told = np.random.default_rng(0), []
        for _ in range(3):
            observation, _ = environment.reset()
            over = False
            while not over:
                near = np.asarray(observation["image"]) + rng.uniform(-0.2, 0.2, IMAGES.shape[1:])
                action = near.clip(0, 1).astype(np.float32)
                observation, reward, over, _, info = environment.step(action)
                told += [np.asarray(part) for part in observation.values()]
                told += [np.array(reward), np.array([v for v in info.values() if not isinstance(v, str)])]
        return told

    expected = walked()
    with hostile():
        found = walked()
    assert len(expected) > 40
    assert equal(found, expected)


SCENARIO = """
dataset = "digits"
classifier = "digits-cnn"
games = 6
attackers = ["square"]
defenders = ["none"]
utility = 0
[threat]
epsilon = 0.15
budget = 20
"""


def test_the_command_line_plays_the_same_in_hostile_surroundings(tmp_path: Path) -> None:
    (tmp_path / "digits.toml").write_text(SCENARIO)

    def logged(name: str) -> list[tuple[Any, ...]]:
        log = tmp_path / name
        ran = CliRunner().invoke(
            app, ["play", str(tmp_path / "digits.toml"), "--log", str(log), "--device", "cpu"]
        )
        assert ran.exit_code == 0, ran.output
        with closing(sqlite3.connect(log)) as connection:
            rows = connection.execute("SELECT game_id, turn, label, margin, l2, linf FROM queries").fetchall()
            games = connection.execute("SELECT image, queries, vote, base, final FROM games").fetchall()
        assert len(rows) > 60
        return [*rows, *games]

    expected = logged("plain.db")
    with hostile():
        found = logged("hostile.db")
    assert found == expected


# What callers and players bring along


@pytest.mark.parametrize("kind", ["gradients", "inference", "float64"])
def test_images_are_taken_without_their_history(kind: str) -> None:
    expected = played("square"), played("pgd")
    images = IMAGES.double() if kind == "float64" else IMAGES.clone().requires_grad_(kind == "gradients")
    labels = LABELS
    if kind == "inference":
        with torch.inference_mode():
            images, labels = images.clone(), labels.clone()
    found = played("square", images=images, labels=labels), played("pgd", images=images, labels=labels)
    assert all(map(equal, found, expected))
    assert images.grad is None
    environment = gymnasium.make(
        ID, classifier=NETWORK, images=images, labels=labels, arrays="torch", disable_env_checker=True
    )
    observation, _ = environment.reset(seed=0)
    assert not observation["image"].requires_grad and not observation["image"].is_inference()
    environment.step(observation["image"].clone().requires_grad_(True))


def test_a_network_made_in_inference_mode_has_gradients() -> None:
    with torch.inference_mode():
        classifier = Classifier.of(Network(), sample=IMAGES)
    x = IMAGES.clone().requires_grad_(True)
    classifier.differentiable(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.any()


def test_a_classifier_asked_under_autocast_answers_in_float32() -> None:
    classifier = Classifier.of(NETWORK, sample=IMAGES)
    expected = classifier(IMAGES)
    for kind in ("autocast", "medium", "inference"):
        with SURROUNDINGS[kind]():
            assert torch.equal(classifier(IMAGES), expected), kind


@dataclass(frozen=True, eq=False)
class Careless(Attacker):
    """Asks from within a `with` block, and ends within it."""

    block: Callable[[], AbstractContextManager[Any]]
    heard: list[Tensor]

    needs: ClassVar[Needs] = Needs(feedback="scores")

    def play(self, games: Games) -> Play:
        with self.block():
            answers = yield from games.ask(games.x0, purpose="clean")
            assert answers.scores is not None
            self.heard.append(answers.scores)
            yield from games.resign(games.open)
            yield from games.resign(games.open)


@pytest.mark.parametrize("kind", ["no grad", "inference", "autocast", "float64", "device meta"])
def test_an_attacker_that_yields_within_a_block_changes_neither_answers_nor_the_caller(kind: str) -> None:
    plain: list[Tensor] = []
    found: list[Tensor] = []
    for block, heard in ((nullcontext, plain), (SURROUNDINGS[kind], found)):
        arena.play(
            Careless(block, heard),
            classifier=NETWORK,
            images=IMAGES,
            labels=LABELS,
            threat={"epsilon": 0.1, "budget": 5},
            device="cpu",
        )
        assert in_own_modes()
    assert torch.equal(found[0], plain[0])
