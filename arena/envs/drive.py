"""An attacker at a vector environment, to be compared with a policy in the same games and rewards."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from arena import draws
from arena.envs.actions import Action
from arena.envs.vector import BlackBoxVectorEnv
from arena.game.checks import Checks
from arena.game.driver import Host
from arena.game.driver import drive as run
from arena.game.referee import longest_volley
from arena.modes import own_modes
from arena.players.registry import Spec, build_attacker
from arena.players.seat import Games, Resources
from arena.rules.moves import Answers, Resign, Submit, Volley, VolleyError
from arena.rules.outcome import Bools, Floats, Ints
from arena.surroundings import own_surroundings


@own_modes()
def drive(
    attacker: Spec,
    env: BlackBoxVectorEnv,
    *,
    seed: int | None = None,
    defense: dict[str, Any] | None = None,
    resources: Resources | None = None,
) -> Floats:
    """Let `attacker` play the next N games of `env`; returns the sum of each game's rewards, [N].

    The rows that a volley holds for one game are asked in successive steps, at most one in each, so that a
    game's turns are what they would be in a match with the same seeds. An environment has no insider moves,
    keeps no notes, and is left rather than resigned from: such games are `resigned` at its next reset.

    Args:
        attacker: an instance, a class, a name, or a table with a name and parameters.
        env: with autoreset disabled; it is reset here, without a seed.
        seed: of the attacker's draws; None: what `arena.play` derives from the environment's.
        defense, resources: what the attacker knows and owns, as in a match.

    Raises:
        ValueError: if autoreset is not disabled, or the attacker cannot play the environment's threat.
        AttackerError: if the attacker's own code fails.
    """
    if env.autoreset_mode is not AutoresetMode.DISABLED:
        raise ValueError(f"drive needs autoreset_mode DISABLED; found {env.autoreset_mode.name}")
    player = build_attacker(attacker)
    if (unmet := player.needs.unmet(env.threat)) is not None:
        raise ValueError(f"{type(player).__name__} cannot play this environment's threat: {unmet}")
    host = EnvHost(env)
    if seed is None:
        seed = draws.derive(int(env.np_random_seed or 0), "attacker", 0)
    with own_surroundings(seed):
        run(player, host.seat(seed, defense, resources), host)
    return host.returns


class EnvHost(Host):
    """Serves an attacker's moves from a vector environment, by its public interface alone.

    An environment's rewards go by answers: notes and claims are heard and change nothing.

    Attributes:
        returns: [N] the rewards so far, added up.
        granted: how many rows of the last volley were charged.
    """

    def __init__(self, env: BlackBoxVectorEnv) -> None:
        self.env, self.granted = env, 0
        self.returns = np.zeros(env.num_envs)
        self._open: Bools = np.ones(env.num_envs, dtype=bool)
        observation, info = env.reset()
        self.key = torch.from_numpy(info["key"]).to(env.device)
        self.now = self._tensors(observation)
        self.checks = Checks(
            self.now["image"], env.threat.accounts, max(env.num_envs, longest_volley(env.setup.shape))
        )

    def seat(self, seed: int, defense: dict[str, Any] | None, resources: Resources | None) -> Games:
        """The attacker's seat: what it holds is its own."""
        threat = self.env.threat.model_copy(deep=True)
        return Games(
            self.now["image"].clone(),
            self.now["label"].clone(),
            threat,
            classes=self.env.setup.classes,
            state=self.state(),
            target=self.now["target"].clone() if threat.targeted else None,
            key=self.key.clone(),
            seed=seed,
            max_rows=self.checks.max_rows,
            defense=copy.deepcopy(defense) if threat.knowledge != "none" else None,
            resources=None if resources is None else resources.copy(),
        )

    @property
    def open(self) -> Bools:
        return self._open

    def resign(self, move: Resign) -> None:
        """Leave games; they are over at the next reset."""
        self._open[move.game.cpu().numpy()] = False

    def submit(self, move: Submit) -> None:
        """Hand in images, in one step."""
        if self.env.threat.objective != "submit":
            raise VolleyError(f'nothing is handed in to an environment under "{self.env.threat.objective}"')
        mine = torch.from_numpy(self._open).to(move.game.device)[move.game]
        self._step(move.game[mine], move.x[mine], submit=True)

    def state(self) -> Answers:
        """How the games stand, without rows."""
        is_open = torch.from_numpy(self._open.copy()).to(self.env.device)
        accounts = self.env.threat.accounts
        banned = self.now["banned"] > 0 if accounts > 1 else ~is_open.new_ones(len(is_open), 1)
        nobody = self.key[:0]
        return Answers(
            game=nobody,
            label=nobody,
            scores=None,
            answered=nobody.bool(),
            refused=nobody.bool(),
            left=self.now["left"][:, 0].long(),
            open=is_open,
            playing=is_open.nonzero().squeeze(1),
            banned=banned,
        )

    def ask(self, volley: Volley) -> Answers:
        volley = self.checks.volley(volley)
        game = volley.game.cpu().numpy()
        n, self.granted = len(game), 0
        label = torch.full_like(volley.game, -1)
        answered = torch.zeros_like(volley.game, dtype=torch.bool)
        refused = answered.clone()
        scores = None
        if self.env.threat.feedback != "label":
            scores = volley.x.new_full((n, self.env.setup.classes), torch.nan)
        for rows in _waves(game):
            rows = rows[self._open[game[rows]]]
            if not len(rows):
                break
            place = torch.from_numpy(rows).to(volley.game.device)
            of = volley.game[place]
            self._step(of, volley.x[place], None if volley.account is None else volley.account[place])
            self.granted += len(rows)
            now = {name: part[of] for name, part in self.now.items()}
            label[place] = torch.where(now["has_label"] > 0, now["answer_label"], -1)
            answered[place], refused[place] = now["answered"] > 0, now["refused"] > 0
            if scores is not None:
                seen = (now["has_scores"] > 0).unsqueeze(1)
                scores[place] = torch.where(seen, now["answer_scores"], torch.nan)
        return replace(
            self.state(), game=volley.game, label=label, scores=scores, answered=answered, refused=refused
        )

    def _step(self, game: Tensor, x: Tensor, account: Tensor | None = None, *, submit: bool = False) -> None:
        """One step in which the open games `game` [n] send `x` [n,C,H,W]."""
        send = np.zeros(len(self.key), dtype=bool)
        send[game.cpu().numpy()] = True
        if account is not None:
            account = torch.zeros_like(self.key).index_copy_(0, game, account)
        action = Action(self.now["image"].index_copy(0, game, x), send, send & submit, account)
        observation, reward, terminated, _, _ = self.env.play(action)
        self.now = self._tensors(observation)
        self.returns += np.asarray(torch.as_tensor(reward).cpu(), dtype=np.float64)
        self._open &= ~np.asarray(torch.as_tensor(terminated).cpu())

    def _tensors(self, observation: dict[str, Any]) -> dict[str, Tensor]:
        return {name: torch.as_tensor(part, device=self.env.device) for name, part in observation.items()}


def _waves(game: Ints) -> list[Ints]:
    """The rows of a volley in successive parts, each with the next row of every game, games ascending."""
    order = np.argsort(game, kind="stable")
    ordered = game[order]
    rank = np.arange(len(game)) - np.searchsorted(ordered, ordered)
    return [order[rank == turn] for turn in range(int(rank.max(initial=-1)) + 1)]
