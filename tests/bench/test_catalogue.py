from __future__ import annotations

from bench.catalogue import PAGE, page


def test_the_catalogue_is_what_its_command_writes() -> None:
    """After a change of cards or figures: `python -m bench catalogue`."""
    assert PAGE.read_text(encoding="utf-8") == page()
