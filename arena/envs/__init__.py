"""The attacker's side of a game as Gymnasium environments: `gymnasium.make("arena/BlackBox-v0", ...)`."""

from arena.envs.blackbox import BlackBoxEnv, BlackBoxVectorEnv
from arena.envs.drive import drive
from arena.envs.setup import DEFAULT_THREAT, EnvOptions
from arena.envs.spaces import action_space, observation_space, vector_action_space

__all__ = [
    "DEFAULT_THREAT",
    "ID",
    "BlackBoxEnv",
    "BlackBoxVectorEnv",
    "EnvOptions",
    "action_space",
    "drive",
    "observation_space",
    "vector_action_space",
]

ID = "arena/BlackBox-v0"
