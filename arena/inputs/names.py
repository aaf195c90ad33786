"""Attributes of modules, named as "module:attribute"."""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType
from typing import Any

from arena.interruptions import is_the_users
from arena.messages import in_short, near

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_MOST = 200
_STANDARD = sys.stdlib_module_names - {"__main__"}


class NameRefused(ValueError):
    """A name that is not looked up, or leads nowhere: a sentence that begins with the module."""


def import_named(module: str) -> ModuleType:
    """The module of that name. Nothing is called, but importing a module runs it.

    A module is any that Python finds: one that is installed, or a file that a user put into the folder of a
    scenario or the current one. The standard library, whose modules hold no agents and networks but do act
    when they are imported or called, and the `__main__` of a package, which is a command, are not looked at.

    Raises:
        NameRefused: if there is no such module, or it ends or fails while it is imported.
    """
    if module.partition(".")[0] in _STANDARD or module.endswith(".__main__"):
        raise NameRefused(f"{module} is not imported: commands and Python's own modules are no plug-ins")
    try:
        return importlib.import_module(module)
    except BaseException as error:
        if is_the_users(error):
            raise
        reason = in_short(error)
        raise NameRefused(f"{module} cannot be imported: {reason}") from error


def import_attribute(name: str) -> Any:
    """What "module:attribute" names, its module imported as by `import_named`.

    Raises:
        NameRefused: if there is no such thing, or its module cannot be imported.
    """
    module, colon, attribute = name.partition(":")
    if not (colon and len(name) <= _MOST and _MODULE.fullmatch(module) and attribute.isidentifier()):
        raise NameRefused(f'"{name}" is not "module:attribute", both of letters, digits and _')
    found = import_named(module)
    try:
        return getattr(found, attribute)
    except AttributeError:
        public = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
        raise NameRefused(f'{module} has no "{attribute}"; {near(attribute, public)}') from None
