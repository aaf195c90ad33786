"""A user's function: its calls by cause, its outages, and what it is not asked twice."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import arena
from arena.classifiers import Classifier, ClassifierError, FromNumpy, served
from arena.classifiers.errors import ServiceError
from arena.classifiers.served import DELAYS, AnswerMemory, Calls, asking
from arena.envs import BlackBoxEnv
from arena.progress import Work, hearing

WEIGHT = np.arange(-24, 24, dtype=np.float32).reshape(4, 12) / 24


class Service:
    """Logits of a linear map; the first `down` calls raise `error`. The images of each call are kept."""

    def __init__(self, down: int = 0, error: Exception | None = None) -> None:
        self.down, self.error = down, error or ConnectionRefusedError("refused")
        self.asked: list[int] = []
        self.tries = 0

    def __call__(self, x: Any) -> Any:
        self.tries += 1
        if self.tries <= self.down:
            raise self.error
        self.asked.append(len(x))
        return x.reshape(len(x), -1) @ WEIGHT.T


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited, without waiting."""
    found: list[float] = []
    monkeypatch.setattr(served.time, "sleep", found.append)
    return found


class Heard:
    def __init__(self) -> None:
        self.remarks: list[str] = []

    def working(self, work: Work | None) -> None:
        pass

    def remark(self, sentence: str) -> None:
        self.remarks.append(sentence)


def images(n: int) -> torch.Tensor:
    return torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(n))


def test_an_outage_is_waited_for_and_said_once(waited: list[float]) -> None:
    service, heard, calls = Service(down=3), Heard(), Calls()
    network = FromNumpy(service)
    with hearing(heard), calls.counting():
        logits = network(images(5))
    assert torch.allclose(logits, torch.from_numpy(Service()(images(5).numpy())))
    assert waited == list(DELAYS[:3])
    assert heard.remarks == [
        f"classifier {__name__}:Service failed (ConnectionRefusedError: refused); trying again, up to 6 times"
    ]
    assert calls.of(network.name)["checks"] == (1, 5), "an answer counts once, however often it was tried"
    assert calls.repeated[network.name] == 3


def test_one_that_does_not_end_is_one_sentence(waited: list[float]) -> None:
    service = Service(down=99, error=TimeoutError("timed out\nafter 10 s"))
    sentence = (
        f"classifier {__name__}:Service did not answer 2 images in 7 tries over 31.5 seconds: "
        f"TimeoutError: timed out"
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for play in (
            lambda: FromNumpy(service)(images(2)),
            lambda: Classifier.of(service, sample=images(2)),  # type: ignore[arg-type]
        ):
            service.tries = 0
            with pytest.raises(ServiceError) as caught:
                play()
            assert str(caught.value) == sentence
            assert caught.value.__cause__ is None and caught.value.__context__ is None
            assert service.tries == len(DELAYS) + 1
    assert len(said) == 2, "where nobody listens, a remark is a warning"
    assert waited == [*DELAYS, *DELAYS]


def test_a_programs_mistakes_are_not_tried_again(waited: list[float]) -> None:
    for error in (TypeError("no"), ValueError("no"), RuntimeError("no"), FileNotFoundError(2, "no")):
        service = Service(down=99, error=error)
        with pytest.raises(ClassifierError, match="failed on images"):
            FromNumpy(service)(images(2))
        assert service.tries == 1
    assert waited == []


@pytest.mark.parametrize("wrap", [FromNumpy, lambda f: lambda x: torch.from_numpy(f(x.numpy()))])
def test_a_notebook_gets_the_sentence(waited: list[float], wrap: Any) -> None:
    service = Service()
    x, labels = images(6), Service()(images(6).numpy()).argmax(1)

    def stops(asked: Any) -> Any:
        if len(service.asked) >= 8:
            service.down = 10**9
        return service(asked)

    with (
        pytest.raises(ServiceError, match=r"did not answer \d+ images in 7 tries"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        threat = {"epsilon": 0.01, "budget": 50}
        arena.play("square", classifier=wrap(stops), images=x, labels=labels, threat=threat, device="cpu")
    assert len(waited) == len(DELAYS)


def test_an_environment_gets_the_sentence(waited: list[float]) -> None:
    service = Service()
    x, labels = images(6), Service()(images(6).numpy()).argmax(1)
    threat = {"epsilon": 0.01, "budget": 50}
    network = FromNumpy(service)
    env = BlackBoxEnv(classifier=network, images=x, labels=labels, threat=threat, device="cpu")
    env.reset(seed=0)
    service.down = 10**9
    with pytest.warns(RuntimeWarning, match="trying again"), pytest.raises(ServiceError, match="in 7 tries"):
        env.step(env.action_space.sample())
    assert waited == list(DELAYS)


def test_what_nobody_pays_for_is_asked_once() -> None:
    service, calls = Service(), Calls()
    network = FromNumpy(service)
    classifier = Classifier.of(network, sample=images(1), batch=4)
    x, plain = images(9), Service()(images(9).numpy())
    _ = classifier.forward  # which asks, too, the first time
    service.asked.clear()
    with calls.counting():
        for cause, asked in (
            ("openings", [4, 4, 1]),
            ("openings", []),
            ("verdicts", []),
            ("queries", [4, 4, 1]),
            ("utility", []),
        ):
            with asking(cause), asking("cost"):  # the outer one is the cause
                assert torch.allclose(classifier(x), torch.from_numpy(plain))
            assert service.asked == asked, cause
            service.asked.clear()
        with asking("verdicts"):
            twice = torch.cat([x[3:5], images(2), images(2)])
            assert torch.allclose(classifier(twice), torch.from_numpy(Service()(twice.numpy())))
        assert service.asked == [2]
    assert calls.of(network.name)["openings"] == (3, 9)
    assert calls.of(network.name)["queries"] == (3, 9)
    assert calls.of(network.name)["verdicts"] == (1, 2)
    assert calls.of(network.name)["utility"] == calls.of(network.name)["cost"] == (0, 0)


def test_a_memory_is_bounded_and_a_copy_of_it_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "MEMORY_BYTES", 3 * 516)
    memory, asked = AnswerMemory(), list[int]()

    def ask(x: torch.Tensor) -> torch.Tensor:
        asked.append(len(x))
        return x.flatten(1)[:, :4]

    x = images(5)
    assert torch.equal(memory.answer(x, ask), x.flatten(1)[:, :4])
    memory.answer(x[2:], ask)
    memory.answer(x[:1], ask)
    pickle.loads(pickle.dumps(memory)).answer(x[:1], ask)
    assert asked == [5, 1, 1]
