from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from arena.versions import versions


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
