"""Which columns are shown."""

from __future__ import annotations

from arena.report.columns import Column, in_every_row, telling


def test_columns_that_are_equal_in_every_row_are_said_once_and_empty_ones_not_at_all():
    differs, same = Column("a", ("1", "2")), Column("left\n@0", ("98.4", "98.4"))
    nothing = Column("refused", ("0", "0"), rare=True)
    shown, said = telling([differs, same, nothing, Column("head", ("x", "x"), always=True)])
    assert [column.head for column in shown] == ["a", "head"]
    assert in_every_row(said) == "In every row: left @0 98.4."
    assert in_every_row([]) == ""
    _, said = telling([differs, Column("agree-\nment", ("100.0", "100.0"))])
    assert in_every_row(said) == "In every row: agreement 100.0."


def test_a_table_of_one_row_keeps_what_is_not_empty():
    shown, said = telling(
        [Column("a", ("1",)), Column("b", ("–",)), Column("c", ("0.0",), rare=True), Column("d", ("0.0",))]
    )
    assert [column.head for column in shown] == ["a", "d"] and not said
