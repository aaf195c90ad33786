"""Which errors may pass: by status, kind, and the names of clients that are not installed."""

from __future__ import annotations

import http.client
import io
import socket
import urllib.error
from email.message import Message
from types import SimpleNamespace
from typing import Any

import pytest

from arena.classifiers.outages import is_outage


def http_error(status: int) -> Exception:
    return urllib.error.HTTPError("http://service", status, "said", Message(), io.BytesIO())


def of_another_client(name: str, base: type[Exception] = Exception, **values: Any) -> Exception:
    error: Exception = type(name, (base,), {})("said")
    for key, value in values.items():
        setattr(error, key, value)
    return error


def raised_from(cause: Exception) -> Exception:
    error = RuntimeError("the client gave up")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("refused"),
        TimeoutError("timed out"),
        socket.gaierror(-3, "temporary failure in name resolution"),
        http.client.RemoteDisconnected("closed"),
        urllib.error.URLError(ConnectionRefusedError()),
        OSError(101, "network is unreachable"),
        *map(http_error, (500, 502, 503, 504, 429, 408)),
        of_another_client("ConnectError"),
        of_another_client("ReadTimeout"),
        of_another_client("ServerDisconnectedError"),
        of_another_client("HTTPError", OSError, response=SimpleNamespace(status_code=503)),
        of_another_client("ClientResponseError", status=502),
        of_another_client("RpcError", code=lambda: SimpleNamespace(name="UNAVAILABLE")),
        raised_from(ConnectionResetError("reset")),
    ],
    ids=repr,
)
def test_outages(error: Exception) -> None:
    assert is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        TypeError("unsupported operand"),
        ValueError("shapes do not fit"),
        KeyError("logits"),
        ZeroDivisionError(),
        RuntimeError("said"),
        FileNotFoundError(2, "no such file"),
        PermissionError(13, "denied"),
        *map(http_error, (400, 401, 403, 404, 422)),
        of_another_client("HTTPStatusError", response=SimpleNamespace(status_code=404)),
        of_another_client("InvalidURL", ValueError),
        of_another_client("RpcError", code=lambda: SimpleNamespace(name="INVALID_ARGUMENT")),
    ],
    ids=repr,
)
def test_mistakes(error: Exception) -> None:
    assert not is_outage(error)
