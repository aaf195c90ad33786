"""The error raised by everything that builds, loads or runs a classifier."""

from __future__ import annotations

from arena.messages import UserError, one_line


class ClassifierError(UserError, ValueError):
    """A classifier that cannot be built or run: one sentence on what was wrong, where, what is allowed."""


class ServiceError(ClassifierError):
    """A user's function that asks a service failed again and again: one sentence."""


def no_address(network: object) -> str | None:
    """A sentence where an address of the web was given in place of a classifier; None for anything else."""
    if not isinstance(network, str) or "://" not in network:
        return None
    return (
        f"found {one_line(network)!r}; addresses are not read yet: a served model comes as a Python function "
        f'of yours that asks it, such as "my_module:ask", from arrays of images to arrays of logits, marked '
        f"@arena.classifiers.FromNumpy"
    )
