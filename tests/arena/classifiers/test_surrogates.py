"""Reference networks: what an attacker may differentiate through, and what is refused."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from arena.classifiers import Classifier, ClassifierError, ClassifierSpec, FromNumpy
from arena.classifiers.surrogates import Surrogate, check_sendable, spec_of, surrogate_of

SHAPE = (2, 4, 4)
X = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(1))


def network(classes: int = 3, shape: tuple[int, ...] = SHAPE) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(shape[0], 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4 * shape[1] * shape[2], classes)).eval()


def classifier(module: nn.Module | None = None, **more) -> Classifier:
    return Classifier.of(module or network(), sample=X[:1], **more)


def test_it_answers_as_the_classifier_and_can_be_differentiated() -> None:
    loaded = classifier()
    found = surrogate_of(loaded, loaded)
    x = X.clone().requires_grad_(True)
    z = found(x)
    torch.testing.assert_close(z.detach(), loaded(X))
    (slope,) = torch.autograd.grad(z[:, 0].sum(), x)
    step = torch.zeros_like(X)
    step[0, 1, 2, 3] = 1e-3
    with torch.no_grad():
        rise = (found(X + step)[0, 0] - found(X - step)[0, 0]) / 2e-3
    assert float(slope[0, 1, 2, 3]) == pytest.approx(float(rise), rel=1e-2)
    assert not any(p.requires_grad for p in found.parameters())
    assert (found.name, found.sha) == (loaded.name, loaded.sha)


def test_batch_norm_and_dropout_are_those_of_evaluation() -> None:
    trained = network().train()
    trained(torch.rand(8, *SHAPE))  # other running statistics than the batch's
    found = Surrogate(classifier(trained))
    assert not any(layer.training for layer in found.modules())
    assert torch.allclose(found(X)[:1], found(X[:1]), atol=1e-6)
    again = pickle.loads(pickle.dumps(found))
    assert torch.equal(again(X), found(X)) and not again.training


def test_one_that_answers_probabilities_is_read_as_the_classifier_reads_it() -> None:
    loaded = classifier(nn.Sequential(network(), nn.Softmax(dim=1)))
    found = surrogate_of(loaded, classifier())
    torch.testing.assert_close(found(X).softmax(1), network()(X).softmax(1).detach())
    torch.testing.assert_close(found(X), loaded(X))


def test_a_copy_changes_nothing_of_the_classifier() -> None:
    loaded = classifier()
    before, own = loaded(X), copy.deepcopy(surrogate_of(loaded, loaded))
    with torch.no_grad():
        for tensor in own.parameters():
            tensor.zero_()
    assert torch.equal(loaded(X), before) and torch.equal(own(X), torch.zeros(5, 3))


def test_what_does_not_fit_is_refused() -> None:
    played = classifier()
    with pytest.raises(ClassifierError, match="has classes 4; those of classifier 'Sequential' are 3"):
        surrogate_of(classifier(network(4)), played)
    wide = Classifier.of(network(shape=(2, 4, 8)), sample=torch.rand(1, 2, 4, 8))
    with pytest.raises(ClassifierError, match=r"has images \[2, 4, 8\]"):
        surrogate_of(wide, played)
    numpy = Classifier.of(FromNumpy(lambda x: x.reshape(len(x), -1)[:, :3]), sample=X[:1])
    with pytest.raises(ClassifierError, match="gives no gradients"):
        surrogate_of(numpy, played)
    with pytest.raises(ClassifierError, match="differentiated in float32"):
        surrogate_of(classifier(precision="bf16"), played)


def test_keys_are_a_classifiers() -> None:
    assert spec_of({"network": "resnet20", "weights": "w"}).weights == "w"
    with pytest.raises(ClassifierError, match='wights: there is no such key; did you mean "weights"'):
        spec_of({"network": "resnet20", "wights": "w"})
    with pytest.raises(ClassifierError, match=r"sha: .*hexadecimal"):
        spec_of({"network": "resnet20", "sha": "short"})


@pytest.mark.parametrize("name", ["digits-cnn", "timm:resnet18", "torchvision:resnet18"])
def test_these_can_be_handed_to_another_process(name: str) -> None:
    check_sendable(ClassifierSpec(network=name))


@pytest.mark.parametrize("name", ["my_networks:Small", "net.pt2", "net.onnx"])
def test_code_and_programs_of_a_users_cannot(name: str) -> None:
    with pytest.raises(ClassifierError, match=r'cannot be handed .* isolation "none" goes without'):
        check_sendable(ClassifierSpec(network=name))
