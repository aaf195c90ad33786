"""Numbers and rules as readers see them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta

from arena.evaluation.clean_utility import Utility, cost_in_words
from arena.league.rates import Median, Rate
from arena.log.answers import LoggedRun
from arena.report.columns import NOTHING
from arena.report.summary import Progress, Row
from arena.rules.threat import Threat

TO = "–"
"""Between the ends of a range."""
NORMS = {"l2": "ℓ2", "linf": "ℓ∞"}
VERDICTS = {
    "answered": "A hit was answered during play: an image inside the ball with a label that wins, neither "
    "refused nor declined.",
    "vote": "The share of fresh answers of the defended classifier to the final image that win, each to a "
    "new client whom the defender does not remember (one answer where the same image always gets the same).",
    "base": "The classifier after hardening, without the rest of the defender, is wrong on the final image.",
}
AGAIN = (
    "One more answer to the account that asked last, by the defender's memory as it was then; for defenders "
    "that remember."
)
LOST_EARLY = (
    "Games that the attacker ended with queries left although at most half of the fresh answers to the image "
    "it handed in are wrong."
)
FIRST = "Objective first, the rule of most papers: a game ends at its first hit."


def percent(value: float, digits: int = 1) -> str:
    """A share as a number of percent, without the sign."""
    return NOTHING if math.isnan(value) else f"{100 * value:.{digits}f}"


def span(rate: Rate, digits: int = 0) -> str:
    """The interval of a rate, in percent."""
    if math.isnan(rate.value):
        return ""
    return f"[{percent(rate.low, digits)}, {percent(rate.high, digits)}]"


def between(median: Median) -> str:
    """The interval of a median distance."""
    return "" if math.isnan(median.value) else f"[{number(median.low)}, {number(median.high)}]"


def left(row: Row, at: int) -> str:
    """The accuracy left at a query count by the headline, in percent; both ends, `answered` and `vote`, where
    no more is known. "" where it was not reported."""
    if at not in row.left:
        return ""
    by = row.left[at]
    if row.hollow and at:
        return "failed"
    if row.both_ends and at:
        return ends(by["answered"].value, by["vote"].value)
    return percent(by[row.verdict].value)


def ends(low: float, high: float) -> str:
    """Two shares in percent, or one where they are printed alike."""
    return percent(low) if percent(low) == percent(high) else f"{percent(low)}{TO}{percent(high)}"


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def queries(value: float) -> str:
    """A mean or median number of queries."""
    return NOTHING if math.isnan(value) else f"{value:,.1f}".removesuffix(".0")


def number(value: float) -> str:
    """A distance."""
    if math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def factor(value: float) -> str:
    """A factor, such as 1.5."""
    return NOTHING if math.isnan(value) else f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def cost(value: float, low: float, high: float, interval: bool = False) -> str:
    """A cost relative to the undefended classifier (`cost_in_words`), with its interval if wanted."""
    said = cost_in_words(value, low, high, NOTHING)
    told = said == NOTHING or " to " in said
    return said if told or not interval else f"{said} [{factor(low)}, {factor(high)}]"


def milliseconds(seconds: float) -> str:
    return NOTHING if math.isnan(seconds) else f"{1000 * seconds:.3g}"


def megabytes(count: int | None) -> str:
    return NOTHING if count is None else f"{count / 1e6:,.3g}"


def millions(count: float) -> str:
    return NOTHING if math.isnan(count) else f"{count / 1e6:,.4g}"


def accuracy(utility: Utility) -> Rate:
    """Clean accuracy with its interval."""
    return Rate(utility.accuracy, utility.low, utility.high)


def epsilon(threat: Threat) -> str:
    """The radius; as a fraction of 255 if it is one."""
    steps = threat.epsilon * 255
    if threat.norm == "linf" and steps <= 64 and abs(steps - round(steps)) < 1e-6 and round(steps):
        return f"{round(steps)}/255"
    return number(threat.epsilon)


def rules(threat: Threat, budgets: set[int]) -> str:
    """A threat in one line."""
    counts = " or ".join(f"{budget:,}" for budget in sorted(budgets))
    goal = f"targeted ({threat.targets})" if threat.targeted else threat.goal
    parts = [
        f"{NORMS[threat.norm]}, epsilon {epsilon(threat)}",
        f"budget {counts} queries",
        f"feedback {threat.feedback}",
        goal,
        f"objective {threat.objective}",
    ]
    if threat.trust_answers:
        parts.append("attackers take answers for facts")
    if threat.quantisation != "none":
        parts.append(f"quantisation {threat.quantisation}")
    if threat.accounts > 1:
        parts.append(f"{threat.accounts} accounts")
    if threat.known != "none":
        parts.append(f"knowledge {threat.known}")
    if threat.resources.surrogates:
        parts.append(surrogates(threat))
    if threat.resources.images:
        parts.append(f"{threat.resources.images} images of the attacker's own")
    if threat.resources.starts:
        parts.append("starting images")
    return " · ".join(parts)


def surrogates(threat: Threat) -> str:
    """The reference networks that a threat grants; "" for none."""
    titles = [one.title for one in threat.resources.surrogates]
    what = "reference network" if len(titles) == 1 else f"{len(titles)} reference networks"
    return f"{what} {listed(titles)}" if titles else ""


def duration(seconds: float) -> str:
    """A time in hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


def unfinished(run: LoggedRun, done: Progress) -> str:
    """What a reader must know about a run that has not ended; "" for one that has."""
    if run.ended is not None:
        return ""
    return (
        f"This run has not ended: {done.finished} of {done.expected} shards are finished, "
        "and only those are counted here."
    )
