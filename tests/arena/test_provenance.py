from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from arena.classifiers.building import packages_of
from arena.provenance import code_of, module_of, source_closure, versions

Write = Callable[..., None]


def test_what_every_result_depends_on() -> None:
    assert packages_of(["digits-cnn", "my_networks:Narrow", "net.pt2"]) == set()
    assert versions()["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("network", "package"),
    [("timm:resnet18", "timm"), ("torchvision:resnet18", "torchvision"), ("Net.ONNX", "onnxruntime")],
)
def test_a_networks_own_package_counts(network: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, SimpleNamespace(__version__="1.2.3"))
    assert versions(*packages_of(["digits-cnn", network])) == versions() | {package: "1.2.3"}


def test_code_is_that_of_a_users_own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_code.py").write_text("net = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert code_of(module_of("my_code:net")) == {"my_code": hashlib.sha256(b"net = 1\n").hexdigest()}
    for network in ("digits-cnn", "net.onnx", "no_such_module:net"):
        assert module_of(network) == {}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes files, by their paths with `__` for `/` left as they are, into a folder of the search path."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return write


def closure(*modules: str) -> list[str]:
    return list(source_closure(modules).sources)


def test_imports_are_followed_wherever_they_stand_and_nothing_is_run(write: Write) -> None:
    write(
        {
            "zz_start.py": (
                "raise SystemExit('must not be run')\n"
                "import zz_plain, zz_pack.deep.leaf as other\n"
                "def late():\n    try:\n        from zz_inside import thing\n"
                "    except ImportError:\n        import zz_except\n"
                "async def later():\n    match 1:\n        case 1:\n            import zz_case\n"
            ),
            "zz_plain.py": "import zz_start  # a circle\n",
            "zz_inside.py": "",
            "zz_except.py": "",
            "zz_case.py": "",
            "zz_alone.py": "",
            "zz_pack/__init__.py": "raise SystemExit",
            "zz_pack/beside.py": "",
            "zz_pack/deep/__init__.py": "",
            "zz_pack/deep/leaf.py": "",
        }
    )
    before = set(sys.modules)
    found = source_closure(["zz_start"])
    assert set(found.sources) == {
        "zz_start",
        "zz_plain",
        "zz_inside",
        "zz_except",
        "zz_case",
        "zz_pack",
        "zz_pack.deep",
        "zz_pack.deep.leaf",
    }
    assert found.sources["zz_pack"] == hashlib.sha256(b"raise SystemExit").hexdigest()
    assert set(sys.modules) == before


def test_what_is_taken_from_a_package_may_be_a_module_and_dots_count_from_where_they_stand(
    write: Write,
) -> None:
    write(
        {
            "zz_pack/__init__.py": "from .a import x",
            "zz_pack/a.py": "from . import b, no_module\nfrom .sub import c",
            "zz_pack/b.py": "from .....too_far import nothing",
            "zz_pack/c.py": "",
            "zz_pack/sub/__init__.py": "from .. import c\nfrom . import d",
            "zz_pack/sub/c.py": "from ..e import y",
            "zz_pack/sub/d.py": "",
            "zz_pack/e.py": "from zz_pack import *",
            "zz_pack/f.py": "",
        }
    )
    inside = ["a", "b", "c", "e", "sub", "sub.c", "sub.d"]
    assert closure("zz_pack") == ["zz_pack", *(f"zz_pack.{name}" for name in inside)]


def test_namespace_packages_lead_on(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path / "second")
    write(
        {
            "zz_space/inner/a.py": "from zz_space.inner import b\nimport zz_space.other.c",
            "second/zz_space/inner/b.py": "",
            "second/zz_space/other/c.py": "from zz_space import other",
        }
    )
    assert closure("zz_space.inner.a") == ["zz_space.inner.a", "zz_space.inner.b", "zz_space.other.c"]


def test_imports_for_type_checkers_do_not_count(write: Write) -> None:
    write(
        {
            "zz_start.py": (
                "import typing\nfrom typing import TYPE_CHECKING\n"
                "if TYPE_CHECKING:\n    import zz_a\nelse:\n    import zz_b\n"
                "if typing.TYPE_CHECKING:\n    import zz_a\nelif True:\n    import zz_c\n"
                "if not TYPE_CHECKING:\n    import zz_d\n"
            ),
            **{f"zz_{letter}.py": "" for letter in "abcd"},
        }
    )
    assert closure("zz_start") == ["zz_b", "zz_c", "zz_d", "zz_start"]


def test_what_is_not_there_or_has_no_source_contributes_nothing(write: Write) -> None:
    write({"zz_start.py": "import os.path, json, zz_missing.deep\nimport zz_broken", "zz_broken.py": "def ("})
    assert source_closure(["zz_missing", "sys", "json", "zz_start.no_package", ""]).sources.keys() == {
        "zz_start",
        "zz_broken",
    }
    assert source_closure(["zz_start"]).distributions == {}


def test_installed_distributions_count_by_version_and_hide_what_they_import(write: Write) -> None:
    write(
        {
            "zz_start.py": "import numpy.linalg, zz_wheel.inside, zz_single\nfrom PIL import Image",
            "zz_wheel/__init__.py": "import zz_hidden",
            "zz_wheel/inside.py": "import zz_hidden",
            "zz_single.py": "",
            "zz_hidden.py": "",
            "zz_wheel-2.5.dist-info/METADATA": "Name: zz-Wheel\nVersion: 2.5\n",
            "zz_wheel-2.5.dist-info/RECORD": "zz_wheel/__init__.py,,\nzz_wheel/inside.py,,\nzz_single.py,,\n",
        }
    )
    found = source_closure(["zz_start"])
    assert list(found.sources) == ["zz_start"]
    assert found.distributions == {
        "numpy": version("numpy"),
        "pillow": version("pillow"),
        "zz-Wheel": "2.5",
    }


def test_a_checkout_is_source_though_it_holds_metadata(write: Write) -> None:
    write(
        {
            "zz_checkout/__init__.py": "",
            "zz_checkout.egg-info/PKG-INFO": "Name: zz-checkout\nVersion: 1\n",
            "zz_checkout.egg-info/top_level.txt": "zz_checkout\n",
        }
    )
    found = source_closure(["zz_checkout"])
    assert (list(found.sources), found.distributions) == (["zz_checkout"], {})


def test_an_edited_file_is_read_again_and_its_new_imports_followed(write: Write, tmp_path: Path) -> None:
    write({"zz_start.py": "import zz_help", "zz_help.py": "TRIALS = 1", "zz_more.py": ""})
    first = source_closure(["zz_start"])
    assert source_closure(["zz_start"]) == first
    write({"zz_help.py": "TRIALS = 2"})  # of the same length
    os.utime(tmp_path / "zz_help.py", ns=(1, 1))
    second = source_closure(["zz_start"])
    assert second.sources["zz_start"] == first.sources["zz_start"]
    assert second.sources["zz_help"] != first.sources["zz_help"]
    assert second.sha != first.sha
    write({"zz_help.py": "import zz_more"})
    assert closure("zz_start") == ["zz_help", "zz_more", "zz_start"]
    write({"zz_help.py": "TRIALS = 1"})
    assert source_closure(["zz_start"]).sha == first.sha


def test_the_script_that_runs_is_source(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write({"script.py": "import zz_help", "zz_help.py": ""})
    main = SimpleNamespace(__file__=str(tmp_path / "script.py"), __spec__=None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert closure("__main__") == ["__main__", "zz_help"]
    del main.__file__  # a notebook
    assert closure("__main__") == []
