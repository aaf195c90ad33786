from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import arena
from arena.classifiers import Classifier, ClassifierError, FromNumpy

WEIGHT = np.arange(-24, 24, dtype=np.float32).reshape(4, 12) / 24


def linear(x: Any) -> Any:
    return x.reshape(len(x), -1) @ WEIGHT.T


def images(n: int) -> torch.Tensor:
    return torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(n))


def test_it_answers_as_its_function() -> None:
    classifier = Classifier.of(FromNumpy(linear), sample=images(1), batch=4)
    assert classifier.classes == 4
    x = images(9)
    assert torch.allclose(classifier(x), torch.from_numpy(linear(x.numpy())), atol=1e-6)
    assert torch.equal(copy.deepcopy(classifier.module)(x), classifier.module(x))


def test_it_hands_out_float32_arrays_of_the_functions_own() -> None:
    seen: list[Any] = []

    def spoil(x: Any) -> Any:
        seen.append((x.dtype, x.flags.c_contiguous, x.shape))
        x[:] = 0
        return np.ones((len(x), 3))

    x = images(4).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    assert FromNumpy(spoil)(x).dtype == torch.float32
    assert torch.equal(x, before)
    assert seen == [(np.float32, True, (4, 3, 2, 2))]


@pytest.mark.parametrize(
    "answer", [[[1, 2]], np.ones((1, 2), np.float16), np.ones((1, 2), np.int64), [[np.nan, 1.0]]]
)
def test_numbers_of_any_kind_are_taken(answer: Any) -> None:
    logits = FromNumpy(lambda x: answer)(images(1))
    assert logits.dtype == torch.float32
    assert np.array_equal(logits.numpy(), np.asarray(answer, np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (
            lambda x: x.sum((1, 2, 3)),
            r"must answer 2 images with an array of numbers \[2,K\], not with float32 \[2\]",
        ),
        (lambda x: linear(x)[:1], r"not with float32 \[1, 4\]"),
        (lambda x: None, "not with NoneType of object"),
        (lambda x: [["cat"], ["dog"]], "not with list of <U3"),
        (lambda x: [[1.0, 2.0], [1.0]], "not with a list"),
        (lambda x: linear(x) > 0, "not with ndarray of bool"),
        (lambda x: x @ np.ones(7), r"failed on images \[2, 3, 2, 2\]: ValueError: matmul"),
        (lambda x: 1 // 0, "failed on images .*: ZeroDivisionError: "),
    ],
)
def test_other_answers_are_told(function: Any, told: str) -> None:
    with pytest.raises(ClassifierError, match=told) as caught:
        FromNumpy(function)(images(2))
    assert f"classifier {__name__}:" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_number_of_classes_is_checked() -> None:
    assert FromNumpy(linear, classes=4)(images(2)).shape == (2, 4)
    with pytest.raises(ClassifierError, match=r"\[2,5\], not with float32 \[2, 4\]"):
        FromNumpy(linear, classes=5)(images(2))


def test_what_is_no_function_is_told() -> None:
    with pytest.raises(TypeError, match="takes a function of an array; found ndarray"):
        FromNumpy(WEIGHT)  # type: ignore[arg-type]


def test_it_gives_no_gradients() -> None:
    classifier = Classifier.of(FromNumpy(linear), sample=images(1))
    with pytest.raises(ClassifierError, match=r"linear is a numpy function and gives no gradients"):
        classifier.differentiable(images(2).requires_grad_())


def test_its_fingerprint_is_name_and_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sha(source: str, name: str = "f") -> str:
        path = tmp_path / "own_numpy.py"
        path.write_text(source)
        scope: dict[str, Any] = {"__name__": "own_numpy"}
        exec(compile(source, str(path), "exec"), scope)
        return Classifier.of(FromNumpy(scope[name]), sample=images(1)).sha

    one = "def f(x): return x.reshape(len(x), -1)\ndef g(x): return f(x)\n"
    assert sha(one) == sha(one)
    assert len({sha(one), sha(one, "g"), sha(one + "# other\n")}) == 3


class Callable:
    def __call__(self, x: Any) -> Any:
        return linear(x)


def test_what_is_called_is_named_by_what_is_written() -> None:
    own = FromNumpy(linear)
    assert own.name == f"{__name__}:linear"
    assert (FromNumpy(partial(linear)).name, FromNumpy(partial(linear)).sha) == (own.name, own.sha)
    assert (FromNumpy(Callable()).name, FromNumpy(Callable()).sha) == (f"{__name__}:Callable", own.sha)
    assert FromNumpy(len).sha == ""
    assert FromNumpy(partial(linear))(images(2)).shape == (2, 4)


def test_a_match_is_played_against_it() -> None:
    x = images(6)
    labels = linear(x.numpy()).argmax(1)
    result = arena.play(
        "square",
        classifier=FromNumpy(linear),
        images=x,
        labels=labels,
        threat={"norm": "linf", "epsilon": 0.3, "budget": 20},
        device="cpu",
    )
    assert len(result.games.label) == 6
    with pytest.raises(ClassifierError, match="gives no gradients"):
        FromNumpy(linear)(x.requires_grad_())
