from __future__ import annotations

import copy

import pytest
import torch

from arena.conformance.tiny_worlds import WORLDS, constant_world, tiny_world

NUMBERS = range(len(WORLDS))


@pytest.mark.parametrize("number", NUMBERS)
def test_logits_of_an_image_are_the_same_bits_in_any_batch(number: int) -> None:
    place = tiny_world(number, "cpu")
    x = place.split("games", 33).images
    whole = place.classifier(x)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(0))
    assert torch.equal(place.classifier(x[order]), whole[order])
    assert torch.equal(torch.cat([place.classifier(row[None]) for row in x]), whole)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_network_is_a_network_of_one_hidden_layer(number: int) -> None:
    place = tiny_world(number, "cpu")
    net, x = copy.deepcopy(place.classifier.module).double(), place.split("games", 8).images
    hidden = ((x.double().flatten(1) - 0.5) @ net.first[:, : x[0].numel()].T).relu()
    logits = (hidden @ net.second[:, : hidden.shape[1]].T - net.mean) * net.scale
    torch.testing.assert_close(place.classifier(x).double(), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("number", NUMBERS)
def test_images_lie_on_8_bit_levels_and_are_classified_right_and_variously(number: int) -> None:
    place = tiny_world(number, "cpu")
    split = place.split("games", 200)
    x = split.images
    assert x.shape[1:] == place.shape == WORLDS[number][0]
    assert torch.equal(x, (x * 255).round() / 255)
    assert torch.equal(place.classifier(x).argmax(dim=1), split.labels)
    assert len(split.labels.unique()) >= min(place.classes, 5)


def test_splits_of_other_names_hold_other_images_and_longer_ones_begin_alike() -> None:
    place = tiny_world(0, "cpu")
    games = place.split("games", 9).images
    assert torch.equal(place.split("games", 4).images, games[:4])
    assert not (games[:, None] == place.split("train", 9).images).flatten(2).all(dim=2).any()


def test_the_constant_world_answers_all_images_alike() -> None:
    place = constant_world("cpu")
    answers = place.classifier(place.split("games", 3).images)
    assert answers.tolist() == [[0.0] * (place.classes - 1) + [-1.0]] * 3


@pytest.mark.parametrize("number", NUMBERS)
def test_a_world_is_built_without_the_global_generators(number: int) -> None:
    """It is built when first asked for, wherever that is: torch's own layers draw their first weights."""
    before = torch.get_rng_state()
    tiny_world.__wrapped__(number, "cpu")
    constant_world("cpu")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("number", NUMBERS)
def test_reference_networks_are_others_and_their_gradients_the_same_bits_in_any_batch(number: int) -> None:
    place = tiny_world(number, "cpu")
    x, networks = place.split("games", 33).images, place.surrogates(2)
    assert len({one.sha for one in networks} | {place.classifier.sha}) == 3

    def slope(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        point = x.clone().requires_grad_(True)
        return torch.autograd.grad(network(point)[:, 0].sum(), point)[0]

    for network in networks:
        whole = slope(network, x)
        assert torch.equal(torch.cat([slope(network, row[None]) for row in x]), whole)
        assert bool((whole != 0).any()) and network(x).shape == (33, place.classes)
