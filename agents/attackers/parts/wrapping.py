"""What attackers around an inner attack have in common."""

from __future__ import annotations

from dataclasses import replace

from arena.players import Attacker, Needs


def with_scores(needs: Needs) -> Needs:
    """`needs`, and scores at least."""
    return replace(needs, feedback="scores") if needs.feedback == "label" else needs


class Around(Attacker):
    """An attacker that passes on what an inner attack, `of`, sends, which sees the whole budget."""

    of: Attacker

    @property
    def needs(self) -> Needs:
        return self.of.needs

    @property
    def twin(self) -> Attacker:
        return self.of

    @property
    def budget_factor(self) -> int:
        return self.of.budget_factor


class AroundScores(Around):
    """An attacker that reads the scores answered to an inner attack."""

    @property
    def needs(self) -> Needs:
        return with_scores(self.of.needs)
