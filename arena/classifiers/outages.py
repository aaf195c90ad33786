"""Which errors of a client say that its service is down or overloaded, so that asking again may help."""

from __future__ import annotations

import errno
import http.client
import re
import socket
import urllib.error
from collections.abc import Iterator
from typing import Any

STATUSES = frozenset({408, 425, 429})
"""HTTP statuses below 500 after which the same request may succeed."""
_MISTAKES = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, NameError, AssertionError)
_DOWN = (ConnectionError, TimeoutError, http.client.HTTPException, socket.gaierror, urllib.error.URLError)
_UNREACHABLE = {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT}
_NAMES = re.compile(
    r"(\w*(Connect|Connection|Disconnected|Transport|Network|Timeout|ServiceUnavailable|RateLimit)\w*"
    r"(Error|Exception)|\w*Timeout)"
)
_CODES = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}


def is_outage(error: BaseException) -> bool:
    """Whether `error`, or what it was raised from, is one of a service that may answer later.

    By an HTTP status where the error carries one (5xx, and `STATUSES`) or gRPC's code; else a connection, a
    name or a deadline that failed. Clients that this project does not know (requests, httpx, aiohttp, grpc,
    ...) are told by the names of their errors. Mistakes of a program (TypeError, ValueError, ...) are none.
    """
    return any(_one(one) for one in _causes(error))


def _one(error: BaseException) -> bool:
    if isinstance(error, _MISTAKES):
        return False
    if (status := _status(error)) is not None:
        return status >= 500 or status in STATUSES
    if isinstance(error, _DOWN) or (isinstance(error, OSError) and error.errno in _UNREACHABLE):
        return True
    code: Any = getattr(error, "code", None)
    if callable(code) and getattr(code(), "name", "") in _CODES:
        return True
    return any(_NAMES.fullmatch(kind.__name__) for kind in type(error).__mro__)


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error of a client carries, if any."""
    response = getattr(error, "response", None)
    for holder in (error, response):
        for name in ("status_code", "status", "code"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and 100 <= value < 600:
                return value
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised from."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__
