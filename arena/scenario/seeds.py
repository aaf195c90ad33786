"""The seeds of a run: from the scenario's, which everybody knows, or from a secret (docs/design.md, D12).

A seed that is public lets an agent compute a defender's noise before it asks, and prepare for the very games
that are drawn. In a ranked run the draw of games, targets and starting images, the numbers of the games and
the seeds of both sides follow from a secret that no scenario, seat, agent or log holds. The log holds a
commitment to it, by which everybody can check the secret once it is published.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from arena.draws import derive
from arena.rules.outcome import Ints
from arena.scenario.errors import ScenarioError

FEWEST, MOST = 16, 4096
"""Bytes of a secret."""


@dataclass(frozen=True)
class Seeds:
    """Where a match's draws come from.

    Attributes:
        secret: None: the scenario's seed decides alone. It is not shown by `repr`.
    """

    secret: bytes | None = None

    def __repr__(self) -> str:
        return f"Seeds({self.commitment or 'public'})"

    @property
    def commitment(self) -> str:
        """What a log says of the secret, from which it cannot be found; "" where there is none."""
        return "" if self.secret is None else _digest(self.secret, ["commitment"]).hex()

    def of_draw(self, seed: int) -> int:
        """The seed of which games are drawn, and of their targets and starting images."""
        return seed if self.secret is None else _number(self.secret, ["draw", seed])

    def of_side(self, who: str, seed: int, repeat: int, agents: str = "") -> int:
        """The seed of the "attacker" or the "defender" in a replay of the games.

        Args:
            agents: which ones they are, in any words. Of a secret each has a seed of its own: an agent is
                told its own, and could compute the draws of all who share it.
        """
        if self.secret is None:
            return derive(seed, who, repeat)
        return _number(self.secret, [who, seed, repeat, agents])

    def numbers(self, image: Ints, of: int) -> Ints:
        """[n] the games' numbers, to which draws are keyed, from those of their images, which are below `of`:
        the same, or in a secret order."""
        return image if self.secret is None else _order(self.secret, of)[image]


PUBLIC = Seeds()


def read_secret(file: Path) -> Seeds:
    """The seeds of a file's secret: its characters, without white space at the ends.

    Raises:
        ScenarioError: if it cannot be read, is too short to be a secret, or could not be published as text.
    """
    advice = f"write one by: openssl rand -hex 32 > {file}"
    try:
        with file.open("rb") as opened:
            secret = opened.read(MOST + 1).strip()
    except OSError as error:
        raise ScenarioError(f"the secret seed {file} cannot be read: {error.strerror}; {advice}") from error
    if not FEWEST <= len(secret) <= MOST or len(set(secret)) < 8:
        raise ScenarioError(
            f"the secret seed {file} holds {len(secret):,} bytes, {len(set(secret))} of them different; a "
            f"secret has {FEWEST} to {MOST:,} random ones; {advice}"
        )
    if not all(0x21 <= byte <= 0x7E for byte in secret):
        raise ScenarioError(
            f"the secret seed {file} holds bytes that are no printable ASCII characters, or white space, so "
            f"that no page could show it once it is published; {advice}"
        )
    return Seeds(secret)


@cache
def _order(secret: bytes, of: int) -> Ints:
    """A secret order of 0, ..., of - 1."""
    seed = int.from_bytes(_digest(secret, ["numbers", of]), "little")
    return np.random.default_rng(seed).permutation(of).astype(np.int64)


def _number(secret: bytes, words: list[str | int]) -> int:
    """In [0, 2^63)."""
    return int.from_bytes(_digest(secret, words)[:8], "little") >> 1


def _digest(secret: bytes, words: list[str | int]) -> bytes:
    """Of words, keyed by the secret: neither it nor the digest of other words can be told from one."""
    key = hashlib.blake2b(secret, digest_size=64, person=b"arena secret").digest()
    return hashlib.blake2b(json.dumps(words).encode("ascii"), key=key, digest_size=32).digest()
