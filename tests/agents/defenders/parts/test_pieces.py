from __future__ import annotations

import torch
from torch import Tensor

from agents.defenders.feature_squeezing import FeatureSqueezing
from agents.defenders.parts import pieces
from agents.defenders.parts.averages import averaged
from agents.defenders.parts.pieces import rows_at_a_time
from arena.players import Response, Rows


def test_images_asked_about_at_a_time_are_few_where_they_are_large() -> None:
    small, large, huge = torch.zeros(1, 1, 8, 8), torch.empty(1, 3, 224, 224), torch.empty(0, 3, 9000, 9000)
    assert rows_at_a_time(small) == 1024
    assert rows_at_a_time(large) == 2**26 // (3 * 224 * 224) == 445
    assert rows_at_a_time(huge) == 1


def test_answers_are_the_same_in_pieces(ask_as, monkeypatch) -> None:
    x = torch.rand(7, 1, 2, 3, generator=torch.Generator().manual_seed(3))
    rows, asked = ask_as(list(range(7))), []

    def inner(x: Tensor, rows: Rows) -> Response:
        asked.append(len(x))
        return Response(x.flatten(1) + rows.normal((6,)), flagged=rows.key == 3)

    def answers() -> list[Response]:
        squeezing = FeatureSqueezing().with_facts({"threshold": 0.5})
        return [averaged(x, rows, inner, 3), squeezing.respond(x, rows, inner)]

    whole = answers()
    assert asked == [21, 21]
    for most, sizes in ((8, [6, 6, 6, 3]), (1, [3] * 7)):
        asked.clear()
        monkeypatch.setattr(pieces, "ROWS", most)
        for part, one in zip(answers(), whole, strict=True):
            assert torch.equal(part.scores, one.scores) and torch.equal(part.flagged, one.flagged)
        assert asked == [*sizes, *sizes]
    assert whole[0].flagged.tolist() == [n == 3 for n in range(7)]
