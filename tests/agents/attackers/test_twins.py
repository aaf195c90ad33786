"""Adaptive attackers name the plain one that they adapt, with the parameters they share."""

from __future__ import annotations

import pytest

from agents.attackers.adaptive.account_rotation import AccountRotation
from agents.attackers.adaptive.annealed_square import AnnealedSquare
from agents.attackers.adaptive.banded_op_square import BandedOpSquare
from agents.attackers.adaptive.bi_square import BiSquare
from agents.attackers.adaptive.bypass_fq import BypassFQ
from agents.attackers.adaptive.bypass_fq_sign_flip import BypassFQSignFlip
from agents.attackers.adaptive.eot import EOT
from agents.attackers.adaptive.jitter import Jitter
from agents.attackers.adaptive.label_scout import LabelScout
from agents.attackers.adaptive.oars_hop_skip_jump import OarsHopSkipJump
from agents.attackers.adaptive.oars_nes import OarsNES
from agents.attackers.adaptive.oars_square import OarsSquare
from agents.attackers.adaptive.oars_surfree import OarsSurFree
from agents.attackers.adaptive.op_square import OpSquare
from agents.attackers.adaptive.query_blinding import QueryBlinding
from agents.attackers.adaptive.race import Race
from agents.attackers.adaptive.scout import Scout
from agents.attackers.adaptive.slope_square import SlopeSquare
from agents.attackers.adaptive.switch_dir import SwitchDir
from agents.attackers.adaptive.uncertainty_aware import UncertaintyAware
from agents.attackers.adaptive.unfold import Unfold
from agents.attackers.adaptive.vote import Vote
from agents.attackers.decision.cgba import CGBA
from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.decision.pop_skip_jump import PopSkipJump
from agents.attackers.decision.sign_flip import SignFlip
from agents.attackers.decision.surfree import SurFree
from agents.attackers.decision.svm_opt import SVMOpt
from agents.attackers.parts.twins import briefly
from agents.attackers.score.nes import NES
from agents.attackers.score.square import Square


@pytest.mark.parametrize(
    ("adaptive", "twin"),
    [
        (BiSquare(p=0.3), Square(p=0.3, loss="margin")),
        (OpSquare(schedule_length=7), Square(schedule_length=7, loss="margin")),
        (BandedOpSquare(p=0.3), Square(p=0.3, loss="margin")),
        (SwitchDir(p=0.3), Square(p=0.3, loss="margin")),
        (AnnealedSquare(p=0.3), Square(p=0.3, loss="margin")),
        (SlopeSquare(p=0.3), Square(p=0.3, loss="margin")),
        (Unfold(of=Square(p=0.2)), Square(p=0.2)),
        (EOT(of=Square(p=0.2)), Square(p=0.2)),
        (Race(of=Square(p=0.2)), Square(p=0.2)),
        (Vote(of=HopSkipJump(gamma=2.0)), HopSkipJump(gamma=2.0)),
        (UncertaintyAware(of=HopSkipJump()), HopSkipJump()),
        (Jitter(of=SignFlip()), SignFlip()),
        (BypassFQ(gamma=2.0, max_directions=9), HopSkipJump(gamma=2.0)),
        (BypassFQSignFlip(alpha=0.01), SignFlip(alpha=0.01)),
        (Scout(), Square()),
        (LabelScout(), CGBA()),
        (AccountRotation(of=Square(p=0.2)), Square(p=0.2)),
        (QueryBlinding(of=HopSkipJump()), HopSkipJump()),
        (OarsSquare(p=0.3), Square(p=0.3)),
        (OarsNES(pairs=5), NES(pairs=5, ask_iterate=True)),
        (OarsHopSkipJump(gamma=2.0), HopSkipJump(gamma=2.0)),
        (OarsSurFree(rho=0.9), SurFree(rho=0.9, trials=1)),
        (PopSkipJump(initial_probes=50), HopSkipJump(initial_probes=50)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_twin(adaptive, twin):
    assert adaptive.twin == twin
    assert type(adaptive.twin) is type(twin)


@pytest.mark.parametrize("attacker", [Square(), HopSkipJump(), SignFlip(), SVMOpt()])
def test_a_plain_one_has_none(attacker):
    assert attacker.twin is None


def test_an_attacker_in_a_note_is_its_class_and_what_is_not_default() -> None:
    assert briefly(Square()) == "Square()"
    assert briefly(Unfold(of=Square(p=0.3), tau=5.99321)) == "Unfold(of=Square(p=0.3), tau=5.993)"
