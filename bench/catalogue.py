"""The catalogue of the packaged defenders, written from their cards and from what was measured.

python -m bench catalogue            # writes docs/catalogue.md

The figures are those of `python -m bench defenders`, in the file beside the defenders.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from agents.defenders.stateful.gwad import GWAD
from arena.cli.agent_card import example_of, traits_of
from arena.cli.agent_defense import UNMEASURED, distance, share
from arena.evaluation.benign.kinds import CLIENTS
from arena.evaluation.clean_utility import cost_in_words
from arena.players import Defender
from arena.players.card import Card
from arena.players.catalogue import altered
from arena.players.measured import Measured
from arena.players.registry import agent_class, names, where_written
from bench.defenders import BUDGETS, OUT, RADII, ROOT, held

PAGE = ROOT / "docs" / "catalogue.md"
HEAD = """# Catalogue of defenders

What each packaged defender alters, remembers, costs and claims, and who gets through it here. Written by
`python -m bench catalogue` from the defenders' cards and from what `python -m bench defenders` measured;
`arena agents show NAME` says the same of one, with its parameters. How a defender is written, with a card of
its own, stands in [defenders.md](defenders.md).

An answer to a row depends on that row, what the defender remembers, and the draws keyed to the row, never on
the rest of the batch: `arena check NAME` tests it, and every packaged defender passes. Some of the papers'
defenses are not independent as published: AAA averages its loss over a batch, DENT adapts to one, PNI and RSE
share one draw among its rows, R&P one size. Here they are played row by row, as their descriptions say.
"""
ACTS = """
## What they do

*Alters*: the classifier's weights, its input, features within it, the scores, the label alone, or the service
(whether and to whom it answers). *Broken here by*: packaged attackers that get through it in
[results.md](results.md) or in the figures below, the strongest first.

"""
MEASURED = """
## What they cost and hold: {world}

{command}; {machine}, commit {commit}; default parameters{but}.

- *accuracy* of {images} clean images, and *points lost* to the undefended classifier, in percent;
- *ECE*: expected calibration error in percent, undefended {ece};
- *time* of one query at one row, relative to the undefended classifier's;
- *prepares*: processor seconds of preparation, training included;
- of the first {games} games that are right at first, *Square*: the share that it wins, in percent (linf
  {radius}, {square} queries of logits, objective `submit`), and *HopSkipJump*: its median l2 distance ({hop}
  queries of labels, objective `minimum`; ∞: it wins less than half). By `vote` where answers are no facts.

In brackets 95 % intervals.

"""
GAINS = """
### Stacks beside their parts: {world}

Of the same games: what a stack leaves, beside each of its parts alone. First listed is outermost.

"""
BENIGN = """
### What benign clients lose: {world}

Percent of the queries of clients that attack nobody which are refused, declined or answered with another
label than undefended: {sessions} clients of each kind, before whom nobody asked, all of a kind at one
service, each with an account of its own. Intervals are of up to {half} points to either side. Under a random
defender each query has the one answer that the client got. Another label need not be a wrong one: what
explanations and optimisers send can be as far from any image as what attackers send.

They lose nothing at {spared}. A defender that watches an account for longer than a session takes nothing
here (a session has at most {session} queries, and `gwad` watches {watched} updates), nor does one that only
flags (`feature-squeezing`, by default).

"""
SAYS = """
## What they claim

"""


def page() -> str:
    """The text of docs/catalogue.md."""
    found = list(held(OUT).values())
    there = [name for name in names("defender") if where_written("defender", name)[1]]
    text = (
        HEAD
        + ACTS
        + table(("defender", "alters", "remembers", "random", "prepares", "broken here by"), acts(there))
    )
    for world in dict.fromkeys(one.world for one in found):
        own = [one for one in found if one.world == world]
        text += measured(world, [one for one in own if len(one.stack) == 1 and one.stack[0] in there])
        text += benign(world, [one for one in own if one.benign])
        if stacks := [one for one in own if len(one.stack) > 1]:
            heads = ("stack", "part", "accuracy", "Square", "HopSkipJump", "time")
            text += GAINS.format(world=world) + table(heads, gains(stacks, own))
    said = ((f"`{name}`", c.claims, c.paper) for name in there if (c := card(name)) is not None)
    return text + SAYS + table(("defender", "claims", "paper"), said)


def card(name: str) -> Card | None:
    found: Card | None = agent_class("defender", name).card  # type: ignore[attr-defined]
    return found


def acts(there: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A row a defender: where it acts, and who breaks it."""
    for name in there:
        own, example = card(name), example_of("defender", name)
        agent = example[0] if example else None
        traits = traits_of(agent) if isinstance(agent, Defender) else {}
        yield (
            f"`{name}`",
            altered(own.alters) if own else "",
            traits.get("memory", ""),
            "yes" if isinstance(agent, Defender) and agent.random else "no",
            traits.get("prepares", "").removeprefix("yes: ").removesuffix(", once a run"),
            ", ".join(f"`{attacker}`" for attacker in own.broken_by) if own else "",
        )


def measured(world: str, found: Sequence[Measured]) -> str:
    """The table of a world's measurements of single defenders."""
    most = max(found, key=lambda one: one.images)
    images, games = most.images, max(one.games for one in found)
    changed = "; ".join(one.parameters for one in found if one.parameters)
    text = MEASURED.format(
        world=world,
        command=", ".join(dict.fromkeys(f"`{one.command}`" for one in found)),
        machine=", ".join(dict.fromkeys(one.machine for one in found)),
        commit=", ".join(dict.fromkeys(one.commit for one in found)),
        but=f", but {changed}" if changed else "",
        images=images,
        ece=f"{100 * most.bare_ece:.2f}",
        games=games,
        radius=f"{RADII[world]:.3g}",
        square=BUDGETS["square"],
        hop=f"{BUDGETS['hop-skip-jump']:,}",
    )
    heads = ("defender", "accuracy", "points lost", "ECE", "time", "prepares, s", "Square", "HopSkipJump")
    return text + table(heads, (cells(one, images, games) for one in found))


def cells(one: Measured, images: int, games: int) -> tuple[str, ...]:
    """A measurement as a row, which says where it has fewer images or games than the head of the table."""
    if one.failed:
        return (f"`{one.stack[0]}`", f"cannot be played here: {one.failed}", *[""] * 6)
    fewer = []
    if one.images < images:
        fewer.append(f"{one.images} images")
    if one.games < games:
        fewer.append(f"{one.games} games")
    return (
        f"`{one.stack[0]}`" + (f" ({', '.join(fewer)})" if fewer else ""),
        share(one.accuracy),
        share(one.lost),
        UNMEASURED if math.isnan(one.ece) else f"{100 * one.ece:.2f}",
        cost_in_words(*one.time, missing="1"),
        f"{one.preparing:.0f}" if one.preparing >= 0.5 else "0",
        share(one.square),
        distance(one.hop_skip_jump),
    )


def benign(world: str, found: Sequence[Measured]) -> str:
    """The table of what benign clients lose, with a row for each stack at which they lose something."""
    if not found:
        return ""
    losing = [one for one in found if any(share[0] > 0 for share in one.benign.values())]
    spared = [name_of_stack(one) for one in found if one not in losing]
    most = max(one.sessions for one in found)
    half = max(
        max(share[2] - share[0], share[0] - share[1]) for one in found for share in one.benign.values()
    )
    text = BENIGN.format(
        world=world,
        sessions=most,
        half=f"{100 * half:.0f}",
        spared="; ".join(spared) or "none of them",
        session=max(client.queries for client in CLIENTS.values()),
        watched=GWAD().capacity,
    )
    kinds = list(dict.fromkeys(kind for one in losing for kind in one.benign))
    rows = (
        (
            name_of_stack(one) + (f" ({one.sessions} clients)" if one.sessions < most else ""),
            *(f"{100 * one.benign[kind][0]:.1f}".replace(".0", "") for kind in kinds),
        )
        for one in losing
    )
    return text + table(("defender", *kinds), rows)


def name_of_stack(one: Measured) -> str:
    return ", ".join(f"`{name}`" for name in one.stack)


def gains(stacks: Sequence[Measured], found: Sequence[Measured]) -> Iterator[tuple[str, ...]]:
    """Of each stack a row, then a row for each part and for no defense."""
    alone = {one.stack: one for one in found}
    for stack in stacks:
        for part in (stack, *(alone.get((name,)) for name in (*stack.stack, "none"))):
            if part is not None:
                title = name_of_stack(stack) if part is stack else ""
                named = "all" if part is stack else f"`{part.stack[0]}`"
                played = (share(part.accuracy), share(part.square), distance(part.hop_skip_jump))
                yield title, named, *played, cost_in_words(*part.time, missing="1")


def table(heads: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
