from __future__ import annotations

from bench.env import measure


def test_a_step_costs_more_than_its_forward_pass() -> None:
    found = measure(5, 1)
    step, forward = float(str(found["ms/step"])), float(str(found["ms/forward"]))
    assert step > forward > 0
    assert float(str(found["ms beside"])) > 0
