from __future__ import annotations

from arena.players.measured import Measured
from bench.catalogue import PAGE, benign, cells, page

SINGLE, LIME = (0.0, 0.0, 0.161), (0.255, 0.12, 0.48)


def one(name: str, **shares: tuple[float, float, float]) -> Measured:
    return Measured("digits", (name,), "bench", "abc", "cpu", sessions=20, benign=shares)


def test_the_catalogue_is_what_its_command_writes() -> None:
    """After a change of cards or figures: `python -m bench catalogue`."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_what_benign_clients_lose_has_a_row_where_they_lose_something() -> None:
    text = benign(
        "digits", [one("free", single=SINGLE, lime=SINGLE), one("strict", single=SINGLE, lime=LIME)]
    )
    assert "They lose nothing at `free`." in text and "20 clients of each kind" in text
    assert text.endswith("| defender | single | lime |\n|---|---|---|\n| `strict` | 0 | 25.5 |\n")
    assert "up to 22 points" in text


def test_without_measurements_there_is_no_such_table() -> None:
    assert benign("digits", []) == ""


def test_a_row_says_where_it_has_fewer_games_or_images_than_the_head_of_its_table() -> None:
    row = Measured("digits", ("snd",), "bench", "abc", "cpu", images=50, games=15)
    assert cells(row, 50, 15)[0] == "`snd`"
    assert cells(row, 50, 20)[0] == "`snd` (15 games)"
    assert cells(row, 500, 20)[0] == "`snd` (50 images, 15 games)"
