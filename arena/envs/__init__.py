"""The attacker's side of a game as Gymnasium environments: `gymnasium.make("arena/BlackBox-v0", ...)`."""

from arena.envs.blackbox import BlackBoxEnv
from arena.envs.drive import drive
from arena.envs.low_frequency import LowFrequency, VectorLowFrequency
from arena.envs.setup import DEFAULT_THREAT, EnvOptions
from arena.envs.spaces import action_space, observation_space
from arena.envs.vector import BlackBoxVectorEnv

__all__ = [
    "DEFAULT_THREAT",
    "ID",
    "BlackBoxEnv",
    "BlackBoxVectorEnv",
    "EnvOptions",
    "LowFrequency",
    "VectorLowFrequency",
    "action_space",
    "drive",
    "observation_space",
]

ID = "arena/BlackBox-v0"
