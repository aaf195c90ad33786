"""How the games of one attacker against one defended classifier stand at a query count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.clean_utility import Utility
from arena.league.rates import standing
from arena.log.answers import LoggedGames, LoggedMarks, LoggedMatch, LoggedRun, PurposeCounts
from arena.records.match_record import Judgement
from arena.rules.outcome import FAILED, Bools, Floats, Ints, Reason, Verdict
from arena.rules.threat import Threat


@dataclass(frozen=True, eq=False)
class Source:
    """A match of a log whose games a cell holds.

    Attributes:
        log: its name; run, match: as they are there.
        draw: what decided which games are drawn and with which seeds the sides play: two matches with equal
            agents and rules that are of different draws are further games, of one draw the same games.
        games: all of its finished shards; marks: of these, at the counts before its budget.
        asked: its queries by purpose.
        shards: how many are finished, and how many it has in all.
        utility: what its defended classifier is worth on clean images; None where not measured.
        benign: what benign clients lost to it; empty where not measured.
        secret: the commitment to the secret from which the draws of a ranked run came; "" for others.
    """

    log: str
    run: LoggedRun
    match: LoggedMatch
    draw: str
    games: LoggedGames
    marks: LoggedMarks
    asked: tuple[PurposeCounts, ...]
    shards: tuple[int, int]
    utility: Utility | None = None
    benign: tuple[BenignLoss, ...] = ()
    secret: str = ""

    @property
    def threat(self) -> Threat:
        return self.match.info.threat

    @property
    def counts(self) -> tuple[int, ...]:
        """The query counts at which its verdicts are known, ascending; its budget last."""
        budget = self.threat.budget
        early = {at for at in self.match.info.at if at < budget}
        return (*sorted(early), budget)


@dataclass(frozen=True, eq=False)
class Games:
    """How games stand at a query count, [n] each.

    Attributes:
        draw: which of the matrix's draws (`Source.draw`) each game is of, by its place among them.
        image: its number in the data set; repeat: which replay. (draw, image, repeat) is a game's name: the
            same in all cells of a matrix.
        clean: the classifier was wrong before the game began, so that it was not played: a lost image.
        failed: it ended with `error`, `stalled` or `no-start`.
        reason: why it ended, be it after the query count.
        queries: charged by then. hit_at: turn of the first hit if that came by then, else 0.
        refused: in the whole game.
        answered, wrong, asked, again, base: the verdicts at the count as in `records.reports.MarkRows`;
            wrong and asked are [n,2].
        distance: of the hit that stands, in the threat's norm; infinite without one.
    """

    draw: Ints
    image: Ints
    repeat: Ints
    clean: Bools
    failed: Bools
    reason: list[Reason]
    queries: Ints
    hit_at: Ints
    refused: Ints
    answered: Bools
    wrong: Ints
    asked: Ints
    again: Floats
    base: Bools
    distance: Floats

    def __len__(self) -> int:
        return len(self.image)

    @property
    def vote(self) -> Floats:
        """[n] the share of fresh answers that are wrong; 0 where none were asked."""
        return np.asarray(self.wrong.sum(axis=1) / np.maximum(self.asked.sum(axis=1), 1))

    def lost(self, verdict: Judgement) -> Floats:
        """[n] how far each game is lost to the attacker by a verdict, in [0,1]; 1 for `clean` ones. By
        `again` a game that was not asked again stands by its vote."""
        values = np.asarray(getattr(self, verdict), np.float64)
        if verdict == "again":
            values = np.where(np.isnan(values), self.vote, values)
        return np.where(self.clean, 1.0, values)

    def half(self, which: int) -> Floats:
        """[n] as `lost("vote")`, by one half of the fresh answers alone (0 or 1; D3): one half may choose,
        the other value. Where a half holds no answers, as with defenders of one fresh answer, by both."""
        wrong, asked = self.wrong[:, which], self.asked[:, which]
        share = np.where(asked > 0, wrong / np.maximum(asked, 1), self.vote)
        return np.where(self.clean, 1.0, share)


@dataclass(frozen=True, eq=False)
class Cell:
    """One attacker against one defended classifier at a query count.

    Attributes:
        attacker, defender: as the tables of the matrix name them.
        threat: the rules, with `at` as the budget; at: the query count.
        facts: the defended classifier always gives the same image the same answer.
        verdict: the headline by docs/design.md, D3, whatever a scenario names: logs of several are compared.
        sources: the matches its games are of, one a draw.
        conflicts: sentences on other matches of equal agents and rules whose games came out otherwise; such a
            cell gets no rank.
        games: ordered by draw, image and repeat.
    """

    attacker: str
    defender: str
    threat: Threat
    at: int
    facts: bool
    verdict: Verdict
    sources: tuple[Source, ...]
    conflicts: tuple[str, ...]
    games: Games

    @property
    def whole(self) -> bool:
        """Whether all shards of its matches are finished."""
        return all(done == planned for done, planned in (source.shards for source in self.sources))

    @property
    def played(self) -> Bools:
        """[n] there was a game."""
        return ~self.games.clean

    @property
    def hollow(self) -> bool:
        """Whether games were played and every one failed: what is left then says nothing of the defense."""
        failed = (self.games.failed & ~self.games.answered)[self.played]
        return bool(len(failed) and failed.all())

    @property
    def two_ends(self) -> bool:
        """Whether `answered` and `vote` are but two ends of what is left, without a rank (docs/design.md)."""
        return not self.facts and self.threat.objective == "first"


def games_at(source: Source, at: int, draw: int) -> Games:
    """How a match's games stand at a query count, ordered by image and repeat.

    Args:
        at: one of `source.counts`.
        draw: the place of the match's draw among those of the matrix.

    Raises:
        ValueError: if the match reports no verdicts at the count.
    """
    if at not in source.counts:
        raise ValueError(f"there are no verdicts at {at} queries; there are those at {source.counts}")
    own, budget = source.games, source.threat.budget
    order = np.lexsort((own.repeat, own.image))
    row = standing(own.game, source.marks, at)[order]
    early = at < budget

    def told(name: str, none: Any) -> Any:
        if not early:
            return getattr(own, name)[order]
        values = getattr(source.marks, name)
        return np.where(row < 0, none, values[row]) if len(values) else np.full(len(order), none)

    hit_at = own.hit_at[order]
    reason = [own.reason[i] for i in order.tolist()]
    return Games(
        draw=np.full(len(order), draw, np.int64),
        image=own.image[order],
        repeat=own.repeat[order],
        clean=np.array([why == "clean" for why in reason], np.bool_),
        failed=np.array([why in FAILED for why in reason], np.bool_),
        reason=reason,
        queries=np.minimum(own.queries[order], at),
        hit_at=np.where(hit_at <= at, hit_at, 0),
        refused=own.refused[order],
        answered=np.asarray(told("answered", False), np.bool_),
        wrong=np.stack([told("wrong_a", 0), told("wrong_b", 0)], axis=1).astype(np.int64),
        asked=np.stack([told("asked_a", 0), told("asked_b", 0)], axis=1).astype(np.int64),
        again=np.asarray(told("again", np.nan), np.float64),
        base=np.asarray(told("base", False), np.bool_),
        distance=np.asarray(told(source.threat.norm, np.inf), np.float64),
    )
