from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from arena.players import Response
from arena.players.response import concatenated, pick

SOME = torch.tensor([True, False, True])


def test_a_flag_that_is_not_given_reads_as_all_false() -> None:
    response = Response(torch.zeros(3, 2), refused=SOME)
    for flag in (response.declined, response.flagged, response.banned):
        assert flag.dtype == torch.bool
        assert flag.tolist() == [False] * 3
    assert response.refused is SOME
    assert Response(torch.zeros(0, 2)).banned.tolist() == []
    assert Response(torch.zeros(2, 2), None, None).refused.tolist() == [False] * 2
    assert Response(torch.zeros(3, 2, device="meta")).flagged.device.type == "meta"


def test_flags_are_joined_whether_or_not_they_were_given() -> None:
    mine = torch.tensor([False, False, True])
    for inside in (Response(torch.zeros(3, 2)), Response(torch.zeros(3, 2), refused=SOME)):
        both = replace(inside, refused=inside.refused | mine)
        assert both.refused.tolist() == ((inside.given("refused") is SOME) * SOME.int() + mine > 0).tolist()
        assert both.flagged.tolist() == [False] * 3


def test_reading_one_flag_makes_no_other_and_none_shares_its_memory() -> None:
    response = Response(torch.zeros(3, 2))
    assert all(response.given(flag) is None for flag in Response.FLAGS)
    response.refused[1] = True
    assert response.refused.tolist() == [False, True, False]
    assert response.given("banned") is None
    assert response.banned.tolist() == response.flagged.tolist() == [False] * 3


def test_withheld_is_declined_refused_or_banned() -> None:
    first, second, third = (torch.arange(4) == n for n in range(3))
    response = Response(torch.zeros(4, 2), declined=first, refused=second, banned=third)
    assert response.withheld.tolist() == [True, True, True, False]
    assert (
        Response(torch.zeros(2, 2), flagged=torch.ones(2, dtype=torch.bool)).withheld.tolist() == [False] * 2
    )


def test_copies_keep_what_was_given() -> None:
    copied = copy.deepcopy(Response(torch.zeros(3, 2), flagged=SOME))
    assert copied.flagged.tolist() == SOME.tolist()
    assert copied.given("refused") is None
    with pytest.raises(FrozenInstanceError):
        copied.flagged = SOME  # type: ignore[misc]


def test_responses_are_cut_and_joined_with_their_flags() -> None:
    whole = concatenated(
        [
            Response(torch.zeros(3, 2), refused=SOME),
            Response(torch.ones(2, 2), flagged=SOME[:2]),
            Response(torch.ones(0, 2)),
        ]
    )
    assert whole.given("declined") is whole.given("banned") is None
    assert whole.refused.tolist() == [True, False, True, False, False]
    assert whole.flagged.tolist() == [False, False, False, True, False]
    part = pick(whole, torch.tensor([3, 0]))
    assert part.scores.tolist() == [[1, 1], [0, 0]]
    assert part.refused.tolist() == [False, True]
    assert part.given("declined") is None
