"""Which device plays, and how many rows it takes in one forward pass."""

from __future__ import annotations

import torch

_BATCH = {"cpu": 64, "cuda": 1024, "mps": 512}


def resolve_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` is CUDA, else MPS, else the CPU.

    Raises:
        ValueError: if there is no such device on this machine.
    """
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(found)
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        allowed = '"auto", "cpu", "cuda", "cuda:N" or "mps", where this machine has it'
        raise ValueError(f'there is no device "{name}" here; allowed: {allowed}') from error


def default_batch(device: torch.device) -> int:
    """Rows per forward pass where nobody says otherwise."""
    return _BATCH.get(device.type, 64)


def exact_arithmetic() -> None:
    """Full float32 in every product: probes near a boundary are finer than TF32 (D11)."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
