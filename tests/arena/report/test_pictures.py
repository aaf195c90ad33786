"""Games as pictures: the right pixels, and a reason where there are none."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from arena.datasets import DatasetSpec, load_dataset
from arena.log import open_log, questions
from arena.report import pictures as own
from arena.report.html import render
from arena.report.summary import read_rows, read_run


def pixels(url: str) -> np.ndarray:
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_original_adversarial_and_difference_are_those_of_the_game(play):
    digits = load_dataset("digits")
    with open_log(play(), create=False) as log:
        run, rows = read_run(log), read_rows(log, 1)
        originals = own.Originals(run, ())
        shown = own.pictures(log, rows[0].match, 2, originals.of(rows[0].match))
        won = questions.samples(log, rows[0].match.id, 99, won=True)
    assert [p.game.image for p in shown] == [g.image for g in won[:2]]
    for picture in shown:
        clean = digits.games.source[picture.game.image].numpy()
        final = picture.game.final
        assert np.abs(final - clean).max() == pytest.approx(picture.game.linf, abs=1e-6)
        np.testing.assert_array_equal(pixels(picture.original), (clean[0] * 255).round())
        np.testing.assert_array_equal(pixels(picture.adversarial), (final[0] * 255).round())
        amplified = (0.5 + picture.factor * (final - clean)[0]) * 255
        assert np.abs(pixels(picture.difference) - amplified).max() <= 0.5 + 1e-3
        assert int(picture.answered) != int(picture.label) == picture.game.label


def test_the_answer_is_that_of_the_logged_hit(hand, game):
    run = hand.run()
    match = hand.match(run, game(5, "hit", 4, hit_at=4, votes=(0, 1, 1), l2=1.25, answer=6))
    (row,) = read_rows(hand.log, run)
    (picture,) = own.pictures(hand.log, row.match, 3, "no data")
    assert (picture.answered, picture.label, picture.original) == ("6", "3", None)
    assert match == row.match.id


def test_colours_and_other_numbers_of_channels():
    rgb = np.linspace(0, 1, 3 * 2 * 2, dtype=np.float32).reshape(3, 2, 2)
    np.testing.assert_array_equal(pixels(own.data_url(rgb)), (rgb * 255).round().transpose(1, 2, 0))
    two = np.stack([np.zeros((2, 2)), np.ones((2, 2))]).astype(np.float32)
    np.testing.assert_array_equal(pixels(own.data_url(two)), np.full((2, 2), 128))


@pytest.mark.parametrize(
    ("most", "factor"), [(0.15, 2), (8 / 255, 10), (0.5, 1), (0.9, 1), (1e-4, 5000), (0, 1)]
)
def test_differences_stay_between_black_and_white(most, factor):
    assert own.amplification(np.array([0, -most], np.float32)) == factor


def test_other_data_are_not_shown_as_the_originals(hand, game):
    spec = {"world": {"dataset": {"name": "digits"}}, "games": 1, "shard": 1, "repeats": 1}
    run = hand.run(resolved={"matches": [spec]})
    hand.match(run, game(5, "hit", 4, hit_at=4, votes=(0, 1, 1), l2=1), dataset_sha="0" * 64)
    text = render(hand.log, run)
    assert "is not the one that was played on" in text
    assert "adversarial: 8" in text
    assert "difference ×" not in text


def test_data_that_are_not_at_hand_are_named_and_can_be_given(hand, game, tmp_path):
    images = (np.random.default_rng(0).random((200, 4, 4, 1)) * 255).astype(np.uint8)
    labels = np.arange(200) % 10
    spec = {"world": {"dataset": {"name": "npz", "path": "own.npz"}}, "games": 1, "shard": 1, "repeats": 1}
    folder = tmp_path / "data"
    folder.mkdir()
    np.savez(folder / "own.npz", x=images, y=labels)
    sha = load_dataset(DatasetSpec(**spec["world"]["dataset"]), [folder]).sha
    run = hand.run(resolved={"matches": [spec]})
    hand.match(run, game(5, "hit", 4, hit_at=4, votes=(0, 1, 1), l2=1), dataset_sha=sha)
    without, given = render(hand.log, run), render(hand.log, run, [folder])
    assert "Originals are not shown: " in without
    assert "own.npz" in without
    assert "Originals are not shown" not in given
    url = own.data_url(images[5].transpose(2, 0, 1).astype(np.float32) / 255)
    assert url in given


def test_a_log_that_does_not_say_where_its_data_came_from(hand, game):
    run = hand.run()
    hand.match(run, game(5, "hit", 4, hit_at=4, votes=(0, 1, 1), l2=1))
    assert "the log does not say how its data set was loaded" in render(hand.log, run)


def test_how_many_games_are_shown(hand, game):
    run = hand.run()
    won = [game(i, "hit", 4, hit_at=4, votes=(0, 1, 1), l2=1) for i in range(4)]
    assert own.choose([]) == {}
    for number in range(4):
        hand.match(run, *(won if number else [game(0)]), number=number)
    rows = read_rows(hand.log, run)
    assert own.choose(rows) == {row.match.id: own.PER_MATCH for row in rows[1:]}, "none where none was won"
    for number in range(4, 50):
        hand.match(run, won[0], number=number)
    rows = read_rows(hand.log, run)
    chosen = own.choose(rows)
    assert len(chosen) == own.MOST
    assert set(chosen.values()) == {1}
    assert {rows[1].match.id, rows[-1].match.id} <= set(chosen), "spread over the whole run"


def test_large_images_are_few(hand, game):
    run = hand.run()
    match = {"image_shape": (3, 224, 224)}
    for number in range(10):
        hand.match(run, game(0, "hit", 4, hit_at=4, votes=(0, 1, 1), l2=1), number=number, **match)
    chosen = own.choose(read_rows(hand.log, run))
    assert 1 <= sum(chosen.values()) * 3 * 224 * 224 * 3 <= own.BYTES


def test_a_submitted_image_that_lost_the_vote_is_no_hit(hand, game):
    run = hand.run()
    hand.match(run, game(5, "submitted", 9, hit_at=4, l2=np.nan))
    text = render(hand.log, run)
    assert "the image submitted is no hit" in text
    assert "label 3 · first hit at query 4, 9 charged" in text


def test_by_the_vote_only_games_that_win_it_are_shown_as_won(hand, game):
    run = hand.run()
    lucky = game(1, "budget", 10, hit_at=4, votes=(0, 0.08, 0.08), l2=1.25, answer=6)
    sure = game(5, "budget", 10, hit_at=4, votes=(0, 0.52, 0.52), l2=1.25, answer=6)
    words = {"verdict": "vote", "answers_are_facts": False}
    hand.match(run, lucky, sure, game(6), **words)
    hand.match(run, lucky, number=1, defender="snd", **words)
    hand.match(run, lucky, number=2, defender="snd", **{**words, "verdict": "answered"})
    both, none, paper = read_rows(hand.log, run)
    assert own.choose([both, none, paper]).keys() == {both.match.id, paper.match.id}
    shown = [[p.game.image for p in own.pictures(hand.log, row.match, 3, "")] for row in (both, none, paper)]
    assert shown == [[5], [], [1]]
