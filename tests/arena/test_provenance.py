from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from arena.provenance import code_of, module_of, versions


def test_what_every_result_depends_on() -> None:
    assert versions("digits-cnn", "my_networks:Narrow", "net.pt2") == versions()
    assert versions()["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("network", "package"),
    [("timm:resnet18", "timm"), ("torchvision:resnet18", "torchvision"), ("Net.ONNX", "onnxruntime")],
)
def test_a_networks_own_package_counts(network: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, SimpleNamespace(__version__="1.2.3"))
    assert versions("digits-cnn", network) == versions() | {package: "1.2.3"}


def test_code_is_that_of_a_users_own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_code.py").write_text("net = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert code_of(module_of("my_code:net")) == {"my_code": hashlib.sha256(b"net = 1\n").hexdigest()}
    for network in ("digits-cnn", "net.onnx", "no_such_module:net"):
        assert module_of(network) == {}
