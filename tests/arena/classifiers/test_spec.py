from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from arena.classifiers import ClassifierSpec
from arena.messages import fault


def test_spec_is_a_key_and_forbids_what_it_does_not_know() -> None:
    one = ClassifierSpec(network="a:b", params={"x": [1], "y": 2})
    two = ClassifierSpec(network="a:b", params={"y": 2, "x": [1]})
    assert one == two
    assert len({one, two, ClassifierSpec(network="a:b")}) == 2
    with pytest.raises(ValidationError, match="weight\n"):
        ClassifierSpec.model_validate({"network": "digits-cnn", "weight": "x"})


def test_one_value_or_one_a_channel() -> None:
    assert ClassifierSpec.model_validate({"network": "a:b", "mean": 0.5, "std": 1}).mean == (0.5,)
    spec = ClassifierSpec.model_validate({"network": "a:b", "mean": [0.5, 0, 1], "std": (2,)})
    assert (spec.mean, spec.std) == ((0.5, 0.0, 1.0), (2.0,))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"mean": 0.5}, "found mean without std; they are given together or not at all"),
        ({"std": [1]}, "found std without mean"),
        ({"mean": 0, "std": 0}, "found std [0.0]; it must be above 0"),
        ({"mean": [0, 0], "std": [1, 1, 1]}, "found 2 values of mean and 3 of std"),
        ({"mean": "0.5", "std": 1}, "found '0.5'; it must be a finite number, or a list with one for each"),
        ({"mean": [], "std": 1}, "found []; it must be a finite number"),
        ({"mean": float("nan"), "std": 1}, "found nan; it must be a finite number"),
        ({"sha": "abc"}, "must be 12 to 64 hexadecimal digits, the first of a SHA-256; found 'abc'"),
        ({"sha": "g" * 12}, "must be 12 to 64 hexadecimal digits"),
        (
            {"network": "https://host/model"},
            "found 'https://host/model'; addresses are not read yet: a served",
        ),
        ({"precision": "fp8"}, "found 'fp8'; input should be 'float32', 'tf32' or 'bf16'"),
        ({"compile": "yes"}, "found 'yes'; input should be a valid boolean"),
    ],
)
def test_other_values_are_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ClassifierSpec.model_validate({"network": "a:b", **given})
    (error,) = caught.value.errors()
    assert told in fault(error, ClassifierSpec.model_fields)
