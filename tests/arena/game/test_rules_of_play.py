"""The Referee, its Ledger and its Judge against the rules told row by row (bench/books/naive.py)."""

from __future__ import annotations

from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st

from bench.books.both import Both
from bench.books.plays import BROKEN_MOVES, BROKEN_VOLLEYS, KNOWLEDGE, PURPOSES, Play, radii

DELTA = st.tuples(*[st.integers(-5, 5)] * 4)
"""A perturbation in sixteenths."""


def moves(games: int, accounts: int) -> st.SearchStrategy[tuple[str, Any]]:
    """A move before so many games; volleys more often than others."""
    some = st.lists(st.integers(0, games - 1), max_size=games)
    row = st.tuples(st.integers(0, games - 1), st.integers(0, accounts - 1), DELTA)
    images = st.lists(st.tuples(st.integers(0, games - 1), DELTA), max_size=games)
    once = st.lists(st.tuples(st.integers(0, games - 1), DELTA), max_size=games, unique_by=lambda r: r[0])
    broken = st.tuples(st.sampled_from(BROKEN_VOLLEYS + BROKEN_MOVES), st.lists(row, min_size=1, max_size=4))
    remark = st.tuples(st.sampled_from(["accepted", "loss"]), st.sampled_from([1.0, "text"]), some)
    volley = st.tuples(st.just("volley"), st.tuples(st.sampled_from(PURPOSES), st.lists(row, max_size=10)))
    other = st.one_of(
        st.tuples(st.sampled_from(["submit", "claim"]), once),
        st.tuples(st.sampled_from(["resigned", "no-start"]), some),
        st.tuples(st.just("note"), remark),
        st.tuples(st.sampled_from(["detector", "gradient"]), images),
        st.tuples(st.just("broken"), broken),
    )
    return st.one_of(volley, volley, volley, other)


@st.composite
def plays(draw: st.DrawFn) -> Play:
    games = draw(st.integers(1, 4))
    accounts = draw(st.sampled_from([1, 1, 3]))
    objective = draw(st.sampled_from(["first", "submit", "minimum"]))
    quantisation = draw(st.sampled_from(["none", "none", "round", "floor"]))

    def each(of: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(of, min_size=games, max_size=games))

    return Play(
        weight=draw(st.lists(st.tuples(*[st.integers(-3, 3)] * 4), min_size=3, max_size=3)),
        bias=draw(st.lists(st.integers(-1, 1), min_size=3, max_size=3)),
        holes=draw(st.booleans()),
        batch=draw(st.sampled_from([1, 3, 256])),
        x0=each(st.tuples(*[st.integers(4, 12)] * 4)),
        wrong=each(st.sampled_from([False] * 7 + [True])),
        offset=each(st.integers(1, 2)),
        key=draw(st.lists(st.integers(0, 99), min_size=games, max_size=games, unique=True)),
        threat={
            "norm": draw(st.sampled_from(["linf", "l2"])),
            "epsilon": draw(st.sampled_from(radii(objective, quantisation))),
            "budget": draw(st.integers(1, 12)),
            "feedback": draw(st.sampled_from(["logits", "probabilities", "topk:2", "label"])),
            "goal": draw(st.sampled_from(["untargeted", "targeted"])),
            "objective": objective,
            "quantisation": quantisation,
            "accounts": accounts,
            "knowledge": draw(st.sampled_from(KNOWLEDGE)),
        },
        memory=draw(st.sampled_from([None, "none", "game", "account", "service"])),
        random=draw(st.booleans()),
        seed=draw(st.integers(0, 3)),
        at=draw(st.lists(st.integers(1, 14), max_size=4)),
        votes=draw(st.sampled_from([1, 3])),
        max_rows=draw(st.sampled_from([3, 128])),
        moves=draw(st.lists(moves(games, accounts), max_size=6)),
    )


@settings(max_examples=2 * settings().max_examples)
@given(play=plays())
def test_referee_keeps_the_books_that_the_rules_say(play: Play) -> None:
    for move in play.moves:
        note(str(move))
    Both(play).run()
