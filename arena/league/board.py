"""What a board says: plain values, which pages, tables and files show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.clean_utility import Utility
from arena.league.rates import Median, Rate
from arena.records.match_record import Judgement
from arena.rules.threat import Threat

Status = Literal["found", "clear", "unchecked"]
Side = Literal["attacker", "defender"]


@dataclass(frozen=True)
class Finding:
    """What an indicator of a failed attack says of a matrix, an agent of it or a cell (docs/design.md, D14).

    Attributes:
        indicator: its name, such as "still-improving".
        status: `unchecked` where the evidence that it needs is absent, which is never the same as `clear`.
        grave: whether, where found, the cells it speaks of get no rank.
        attacker, defender: of whom it speaks; "" for all.
        evidence: one sentence with its figures; of `unchecked`, what is missing.
        advice: one sentence on what to do; "" where nothing is to be done.
    """

    indicator: str
    status: Status
    grave: bool
    attacker: str
    defender: str
    evidence: str
    advice: str = ""


@dataclass(frozen=True)
class CellFigures:
    """A cell in figures.

    Attributes:
        games, played, images, failed: games in all, those not lost before they began, distinct images, and
            games that ended with `error`, `stalled` or `no-start`.
        verdict: the headline; left, success: the accuracy left over all games, the share won of those played,
            by verdict; their intervals account for games and for the defense's randomness.
        distance: the median over the images: infinite for one that nobody won, 0 for one that was lost before
            its game; None unless objective `minimum`.
        queries_mean, queries_median: charged per game played; hits_median: turn of the first hit over the
            games with one.
        refused, flagged: shares of all queries; None where the log does not tell.
        insider: evaluations of what the attacker knows of the defense, a game played, in the whole run.
        curve: (query count, accuracy left by the headline), ascending from 0.
        withheld: why the cell gets no rank: conflicts, missing games, grave findings, two ends; "": it does.
        facts: where to find it: log, run, match, versions, device, seed, command, by name.
    """

    attacker: str
    defender: str
    games: int
    played: int
    images: int
    failed: int
    verdict: Judgement
    left: Mapping[Judgement, Rate]
    success: Mapping[Judgement, Rate]
    distance: Median | None
    queries_mean: Median
    queries_median: Median
    hits_median: Median
    refused: float | None
    flagged: float | None
    curve: Sequence[tuple[int, float]]
    conflicts: Sequence[str] = ()
    withheld: str = ""
    facts: Sequence[Mapping[str, Any]] = ()
    two_ends: bool = False
    insider: float = 0.0


@dataclass(frozen=True)
class WorstCase:
    """What a defender keeps against the strongest of its attackers.

    Attributes:
        left: accuracy left per image over attackers: exact where answers are facts, else chosen on one half
            of the votes and valued on the other, both ways (docs/design.md, D3).
        exact: whether it is the maximum itself.
        chosen: the share of images on which each attacker is the choice.
        strongest: the attacker that alone leaves the least, and what it leaves.
        attackers: those taken together; left_out: others of the matrix, with the reason.
        distance: the median over images of the nearest distance that stands, infinite without one; None
            unless objective `minimum`.
    """

    defender: str
    left: Rate
    exact: bool
    chosen: Mapping[str, float]
    strongest: str
    strongest_left: Rate
    attackers: Sequence[str]
    left_out: Mapping[str, str] = field(default_factory=dict)
    distance: Median | None = None


@dataclass(frozen=True)
class PairTest:
    """Two agents on the same images; `difference` is `other` - `one`, with its paired interval, a Median
    where distances are ranked; `adjusted` is p by Holm over all pairs tested together."""

    one: str
    other: str
    difference: Rate | Median
    images: int
    p: float
    adjusted: float


@dataclass(frozen=True)
class Rank:
    """A place in an order. `low` and `high`: the best and worst rank that the tests leave open (1 is the
    best); equal where it is settled. `figure` is what is ranked, a Median where distances are;
    NaN, and ranks 0, where `withheld` says why it is not."""

    agent: str
    figure: Rate | Median
    low: int
    high: int
    withheld: str = ""


@dataclass(frozen=True)
class Order:
    """Agents of one side in order against one agent of the other: `side` is whom the ranks are of."""

    side: Side
    against: str
    ranks: Sequence[Rank]
    tests: Sequence[PairTest]


@dataclass(frozen=True)
class Rating:
    """Bradley-Terry strength of an agent on Elo's scale, with the interval of a bootstrap over images."""

    agent: str
    side: Side
    rating: Rate


@dataclass(frozen=True)
class Member:
    """One agent of a mixture: its share, and how often it is in the support over resamples of images."""

    agent: str
    share: float
    support: float


@dataclass(frozen=True)
class Equilibrium:
    """The zero-sum game of a matrix: a member is drawn per client for the whole game.

    Attributes:
        value: accuracy left where both sides mix: chosen on one half of the images, valued on the other.
        exploitability: how much the best attacker takes from the published defender mixture on images that
            did not choose the mixture, beyond the value; with its interval.
        pure: the best single defender, and what it keeps against its best attacker, on the same images.
        caps: what the defenders' mixture had to keep to: lost accuracy, delay; None for no cap.
        left_out: agents that do not take part, with the reason; status: what the solver said; gap: between
            primal and dual.
        images: those that all of its cells hold.
        gain: what the mixture keeps beyond the best single defender, on the same images.
        prices: what the published mixture costs: lost accuracy, delay; None where not measured.
    """

    value: Rate
    defenders: Sequence[Member]
    attackers: Sequence[Member]
    exploitability: Rate
    pure: str
    pure_value: Rate
    caps: Mapping[str, float | None]
    left_out: Mapping[str, str]
    status: str
    gap: float
    images: int = 0
    gain: Rate = field(default_factory=lambda: Rate(math.nan, -1.0, 1.0))
    prices: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class MatrixBoard:
    """One matrix, judged. Parts that cannot be said are None or empty, and `unsaid` tells why, by part
    (worst, defender_ranks, attacker_ranks, orders, ratings, equilibrium).

    Attributes:
        by: what ranks are of: accuracy `left`, or median `distance` (objective `minimum`).
        defender_ranks: by worst case; attacker_ranks: by what the defender that is hardest for each attacker
            keeps, chosen on one half of the images and valued on the other; tests: of both.
        orders: defenders against each attacker, attackers against each defender, by the ruling verdict;
            their tests are adjusted together.
        benign: by defender what benign clients lost to it; only those of whom it was measured.
        notes: what has to be known beside a part that is said, by part.
    """

    dataset: str
    classifier: str
    threat: Threat
    at: int
    attackers: Sequence[str]
    defenders: Sequence[str]
    cells: Mapping[tuple[str, str], CellFigures]
    missing: Sequence[tuple[str, str]]
    worst: Sequence[WorstCase]
    defender_ranks: Sequence[Rank]
    attacker_ranks: Sequence[Rank]
    tests: Sequence[PairTest]
    ratings: Sequence[Rating]
    equilibrium: Equilibrium | None
    utilities: Mapping[str, Utility]
    findings: Sequence[Finding]
    unsaid: Mapping[str, str] = field(default_factory=dict)
    by: Literal["left", "distance"] = "left"
    orders: Sequence[Order] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    benign: Mapping[str, Sequence[BenignLoss]] = field(default_factory=dict)


@dataclass(frozen=True)
class Submission:
    """What came of a submission: a sample of its shards was played again. The log of one that failed is not
    in the board.

    Attributes:
        log: its name on the board; agent, paper, code (SHA), url: from its card, "" where it has none.
        status: as weak as its weakest part.
        summary: one sentence; faults, unchecked: what is wrong, and what could not be looked at.
        missed: the chance that, had one shard alone been altered, it is none of those drawn (by `seed`).
        shards: of those drawn (match, number, repeat, status, what was compared).
    """

    log: str
    agent: str
    paper: str
    code: str
    url: str
    status: Literal["bit for bit", "within tolerance", "failed", "not checked"]
    summary: str
    missed: float
    seed: int
    faults: Sequence[str] = ()
    unchecked: Sequence[str] = ()
    shards: Sequence[tuple[str, int, int, str, str]] = ()


@dataclass(frozen=True)
class Board:
    """Everything that a board says.

    Attributes:
        sentences: what was found, three at most, for the top.
        logs: by log: its name, runs, versions, devices, and the secret seeds' commitments.
        matrices: largest query count first within a world and threat.
        secret: of the ranked runs, once it is published; "" where it is not, or there is none.
    """

    title: str
    sentences: Sequence[str]
    logs: Sequence[Mapping[str, Any]]
    matrices: Sequence[MatrixBoard]
    submissions: Sequence[Submission] = ()
    secret: str = ""
