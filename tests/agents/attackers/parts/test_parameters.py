from dataclasses import dataclass

import pytest

from agents.attackers.parts.parameters import check_parameters


@dataclass(frozen=True)
class Agent:
    step: float | None = 0.5
    draws: int | None = 1

    def __post_init__(self):
        check_parameters(self, positive=("step",), counts=("draws",))


@pytest.mark.parametrize("given", [{"step": None}, {"draws": None}, {"step": 1e-30, "draws": 10**9}])
def test_what_is_in_range_or_not_given_passes(given):
    Agent(**given)


@pytest.mark.parametrize("step", [0.0, -1.0, float("inf"), float("nan")])
def test_a_length_is_finite_and_above_0(step):
    with pytest.raises(ValueError, match=rf"^step must be finite and above 0; found {step}$"):
        Agent(step=step)


def test_a_count_is_at_least_1():
    with pytest.raises(ValueError, match=r"^draws must be at least 1; found 0$"):
        Agent(draws=0)
