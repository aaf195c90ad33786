"""What attackers around an inner score attack have in common."""

from __future__ import annotations

from dataclasses import replace

from arena.players import Attacker, Needs


def with_scores(needs: Needs) -> Needs:
    """`needs`, and scores at least."""
    return replace(needs, feedback="scores") if needs.feedback == "label" else needs


class AroundScores(Attacker):
    """An attacker that reads the scores answered to an inner attack, `of`, which sees the whole budget."""

    of: Attacker

    @property
    def needs(self) -> Needs:
        return with_scores(self.of.needs)

    @property
    def twin(self) -> Attacker:
        return self.of

    @property
    def budget_factor(self) -> int:
        return self.of.budget_factor
