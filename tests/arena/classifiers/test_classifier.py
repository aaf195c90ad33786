from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.classifiers.fingerprints import fingerprint

SHAPE = (2, 3, 3)


class Linear(nn.Module):
    """Logits that are sums of small integers, exact in any batch; counts the rows of each forward."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(-36.0, 36).view(4, 18))
        self.pieces: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.pieces.append(len(x))
        return x.flatten(1) @ self.weight.T


class Normalised(nn.Module):
    """Convolution and BatchNorm over an input normalised with a buffer outside the state dict."""

    mean: Tensor

    def __init__(self, mean: float = 0.5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x - self.mean)
        return out


def images(n: int) -> Tensor:
    return torch.randint(0, 5, (n, *SHAPE), generator=torch.Generator().manual_seed(n)) / 4


def linear(**given: Any) -> Classifier:
    return Classifier(Linear(), shape=SHAPE, classes=4, **given)


def pieces(classifier: Classifier) -> list[int]:
    assert isinstance(classifier.module, Linear)
    return classifier.module.pieces


@pytest.mark.parametrize(
    ("n", "expected"), [(0, []), (1, [1]), (4, [4]), (5, [4, 1]), (8, [4, 4]), (9, [4, 4, 1])]
)
def test_forward_goes_in_pieces_of_at_most_batch_rows(n: int, expected: list[int]) -> None:
    classifier, x = linear(batch=4), images(n)
    logits = classifier(x)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, x.flatten(1) @ torch.arange(-36.0, 36).view(4, 18).T)
    assert pieces(classifier) == expected


@pytest.mark.parametrize("n", [3, 5])
def test_logits_are_ordinary_tensors(n: int) -> None:
    """A defender writes into them and differentiates through them, outside inference_mode."""
    logits = linear(batch=4)(images(n))
    assert not logits.is_inference()
    logits[0, 0] = 7
    scale = torch.ones(1, requires_grad=True)
    (logits * scale).sum().backward()  # type: ignore[no-untyped-call]
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(logits.sum().item())


def test_logits_do_not_alias_what_the_module_keeps() -> None:
    kept = torch.zeros(3, 4)
    classifier = Classifier.of(lambda x: kept[: len(x)], sample=images(3))
    classifier(images(3))[:] = 1
    assert not kept.any()


def test_logits_of_other_precisions_become_float32() -> None:
    module = Linear().eval()
    classifier = Classifier.of(lambda x: module(x).double(), sample=images(2))
    assert classifier(images(5)).dtype == torch.float32
    assert classifier.differentiable(images(5)).dtype == torch.float32


def test_callers_module_stays_as_it_was() -> None:
    module = Normalised().train()
    before = copy.deepcopy(module.state_dict())
    classifier = Classifier(module, shape=SHAPE, classes=4)
    logits = classifier(images(6))
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    assert not any(layer.training for layer in classifier.module.modules())
    assert not any(p.requires_grad for p in classifier.module.parameters())
    with torch.no_grad():
        next(module.parameters()).fill_(0)
    assert torch.equal(classifier(images(6)), logits)
    assert not torch.equal(before["body.0.weight"], module.state_dict()["body.0.weight"])


def test_scripts_that_require_gradients_are_copied_and_frozen() -> None:
    """As torch.jit.load and torch.jit.script give them."""
    script = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)))
    x = torch.rand(2, 3, 2, 2)
    classifier = Classifier.of(script, sample=x)
    torch.testing.assert_close(classifier(x), script(x).detach())
    assert not any(weight.requires_grad for weight in classifier.module.parameters())
    assert script.training and all(weight.requires_grad for weight in script.parameters())


def test_module_that_is_ready_is_shared() -> None:
    module = Normalised().eval().requires_grad_(False)
    assert Classifier(module, shape=SHAPE, classes=4).module is module


@pytest.mark.parametrize("forward", [Classifier.__call__, Classifier.differentiable])
def test_batchnorm_never_sees_a_batch(forward: Callable[[Classifier, Tensor], Tensor]) -> None:
    module = Normalised().eval().requires_grad_(False)
    classifier = Classifier(module, shape=SHAPE, classes=4)
    x = images(6)
    alone = classifier(x[:1])
    before = copy.deepcopy(module.state_dict())
    module.train()  # somebody's mistake
    assert torch.allclose(forward(classifier, x)[:1], alone, atol=1e-6)
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_batchnorm_without_running_statistics_is_refused() -> None:
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten())
    with pytest.raises(ValueError, match=r"layer 1 \(BatchNorm2d\) keeps no running statistics"):
        Classifier(module, shape=SHAPE, classes=4)


def test_batch_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1 row, not 0"):
        linear(batch=0)


def test_differentiable_gives_the_gradient_of_the_input_alone() -> None:
    classifier = linear(batch=2)
    x = images(5).requires_grad_()
    classifier.differentiable(x)[:, 3].sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.equal(x.grad, torch.arange(18.0, 36).view(1, *SHAPE).expand(5, *SHAPE))
    assert pieces(classifier) == [5]
    assert all(p.grad is None for p in classifier.module.parameters())


def test_sha_tells_classifiers_apart() -> None:
    def sha(module: nn.Module) -> str:
        return Classifier(module, shape=SHAPE, classes=4).sha

    one_bit = Normalised()
    with torch.no_grad():
        one_bit.body[0].bias.view(torch.int32)[0] ^= 1  # type: ignore[operator]
    renamed = Normalised()
    renamed.corpus = renamed.body
    del renamed.body
    other_layer = Normalised()
    other_layer.body[2] = nn.Sequential(nn.Flatten(), nn.Tanh())
    shas = {sha(m) for m in (Normalised(), one_bit, renamed, other_layer, Normalised(mean=0.25))}
    assert len(shas) == 5
    assert sha(Normalised().double().float()) == sha(Normalised())
    assert len(sha(Normalised())) == 64


def test_sha_is_not_of_addresses_in_the_repr() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept = object()

        def extra_repr(self) -> str:
            return repr(self.kept)

    first, second = Holder(), Holder()
    assert repr(first) != repr(second)
    assert fingerprint(first) == fingerprint(second)


def test_sha_may_be_given() -> None:
    given = linear(sha="ab")
    assert given.sha == "ab"
    assert Classifier.of(given, sample=images(1), batch=3).sha == "ab"


def first_columns(x: Tensor, n: int = 3) -> Tensor:
    return x.flatten(1)[:, :n]


def test_of_finds_shape_and_classes() -> None:
    for model, classes, name in (
        (Linear(), 4, "Linear"),
        (first_columns, 3, f"{__name__}:first_columns"),
        (partial(first_columns, n=5), 5, "functools:partial"),
        (linear(name="mine"), 4, "mine"),
    ):
        classifier = Classifier.of(model, sample=images(1), batch=7)
        assert (classifier.shape, classifier.classes, classifier.batch) == (SHAPE, classes, 7)
        assert classifier.name == name
        assert classifier(images(9)).shape == (9, classes)
    assert Classifier.of(Linear(), sample=images(1), name="other").name == "other"


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda x: x.sum((1, 2, 3)), r"not with float32 \[2\] to 2 images"),
        (lambda x: x.flatten(1)[:, :3, None], r"not with float32 \[2, 3, 1\]"),
        (lambda x: x.flatten(1)[:1], r"not with float32 \[1, 18\]"),
        (lambda x: x.flatten(1)[:, :1], r"not with float32 \[2, 1\]"),
        (lambda x: x.flatten(1).argsort(1), r"not with int64 \[2, 18\]"),
        (lambda x: (x, x), "not with a tuple"),
        (lambda x: x.sub_(0.5).flatten(1), "changes its input in place"),
        (nn.Linear(5, 2), r"cannot take images of shape \[2, 3, 3\]: "),
    ],
)
def test_of_refuses_what_is_no_classifier(model: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        Classifier.of(model, sample=images(2))
    assert "\n" not in str(caught.value)


def test_of_refuses_a_sample_that_is_no_images() -> None:
    with pytest.raises(ValueError, match=r"must be images \[n,C,H,W\] with n > 0, not \[2, 3, 3\]"):
        Classifier.of(Linear(), sample=images(2)[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu() -> None:
    module = Normalised()
    here, there = (Classifier(module, shape=SHAPE, classes=4, device=device) for device in ("cpu", "cuda"))
    x = images(5)
    assert there.device == x.to("cuda").device
    assert torch.allclose(there(x.to("cuda")).cpu(), here(x), atol=1e-5)
    assert there.sha == here.sha
    assert next(module.parameters()).device.type == "cpu"


def test_another_precision_is_another_classifier(packaged: Classifier) -> None:
    shape = packaged.shape
    exact, rounded = (
        Classifier(packaged.module, shape=shape, classes=10, name="net", precision=p)
        for p in ("float32", "bf16")
    )
    assert exact.sha == packaged.sha != rounded.sha
    assert (exact.title, rounded.title) == ("net", "net (bf16)")
    assert Classifier.of(rounded, sample=torch.zeros(1, *shape)).sha == rounded.sha


def test_other_weights_make_another_classifier_and_leave_the_first() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    module.register_buffer("shift", torch.zeros(2), persistent=False)
    first = Classifier(module, shape=(1, 2, 2), classes=3, batch=7, name="first", sha="a" * 64)
    own = first.tensors()
    assert sorted(own) == ["1.bias", "1.weight", "shift"]
    x = torch.rand(5, 1, 2, 2)
    before = first(x)
    other = first.with_tensors({name: 2 * tensor for name, tensor in own.items()})
    assert torch.equal(other(x), other.module(x)) and torch.equal(first(x), before)
    assert torch.allclose(other(x), 2 * before)
    assert (other.name, other.batch, other.shape, other.classes) == ("first", 7, (1, 2, 2), 3)
    assert other.sha == fingerprint(other.module) != first.sha
    with pytest.raises(ValueError, match=r"has torch.float32 \[2\] as 'shift'; found torch.float32 \[3\]"):
        first.with_tensors({**own, "shift": torch.zeros(3)})
    with pytest.raises(ValueError, match="has nothing as 'more'; found"):
        first.with_tensors({**own, "more": torch.zeros(3)})


def test_settings_are_given_to_another_classifier() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    one = Classifier(module, shape=(1, 2, 2), classes=3, batch=7, name="one", precision="bf16")
    other = Classifier(module, shape=(1, 2, 2), classes=3).with_settings(one.settings())
    assert other.settings() == one.settings()
    assert (other.name, other.batch, other.sha) == ("one", 7, one.sha)
    with pytest.raises(ValueError, match="tf32"):
        one.with_settings({**one.settings(), "precision": "tf32"})
