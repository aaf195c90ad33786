from __future__ import annotations

import torch
from torch import Tensor

from agents.defenders.none import NoDefense
from arena.conformance.defender_checks import check_defender
from arena.players.parameters import parameters


def test_conforms() -> None:
    check_defender(NoDefense())


def test_answers_are_the_classifiers(service, ask_as, pixels, images: Tensor) -> None:
    response = service(NoDefense()).respond(images, ask_as(range(150)))
    assert torch.equal(response.scores, pixels(images))
    assert all(response.given(flag) is None for flag in response.FLAGS)


def test_it_declares_nothing() -> None:
    assert parameters(NoDefense()) == {}
    assert not NoDefense().random
    assert NoDefense().memory == "none"
    assert NoDefense().start((5, 1, 8, 8), 1, torch.device("cpu")) is None
