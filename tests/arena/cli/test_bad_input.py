"""Hostile files and words: each ends in one sentence and status 2, soon, and nothing was started."""

from __future__ import annotations

import io
import os
import re
import signal
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from arena.cli.app import app

SECONDS = 60
LISTS = 'games = 2\nutility = 0\nattackers = ["square"]\ndefenders = ["none"]\n'
RULES = "[threat]\nepsilon = 0.2\nbudget = 5\n"
BASE = LISTS + RULES
DIGITS = "9" * 5000
DEEP = "[" * 5000 + "]" * 5000
LONG = "x" * 5000
NETWORKS = """
import sys
from torch import nn
def small(n=1):
    open("called", "w")
    return nn.Flatten()
class Odd:
    def __init__(self):
        open("called", "w")
made = nn.Flatten()
number = 3
"""


def npy(header: str, data: bytes = bytes(100)) -> bytes:
    text = f"{header}\n".encode("latin1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npz(shape: str, kind: str = "|u1") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, own, type_ in (("x", shape, kind), ("y", "(100,)", "|u1")):
            archive.writestr(
                f"{name}.npy", npy(f"{{'descr': {type_!r}, 'fortran_order': False, 'shape': {own}}}")
            )
    return content.getvalue()


def children() -> set[str]:
    """The processes that this one has started and that are still there."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


@pytest.fixture
def here(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("ARENA_DATA", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "odd_networks", raising=False)
    (tmp_path / "odd_networks.py").write_text(NETWORKS)

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"no end within {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def told(*words: str) -> str:
    """The one sentence that a command ends with; it leaves nothing behind."""
    was, running = set(Path().rglob("*")), children()
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2, result.output
    left = {path for path in set(Path().rglob("*")) - was if "__pycache__" not in path.parts}
    assert not left, left
    assert children() == running
    sentence, _, rest = result.output.rstrip("\n").partition("\n")
    assert sentence.startswith("error: ") and not rest and sentence.isprintable(), result.output
    assert len(sentence) < 2100
    return sentence


def scenario(text: str, *words: str) -> str:
    Path("s.toml").write_text(text, encoding="utf-8")
    return told("play", "s.toml", "--device", "cpu", *words)


SCENARIOS = {
    "a function": (
        'classifier = "odd_networks:small"',
        "is a function, which is called only where you trust",
    ),
    "a function and its words": (
        'classifier = { network = "odd_networks:small", params = { n = 3 } }',
        "add --trust odd_networks:small (in Python, pass what it returns), or name",
    ),
    "a class of another kind": (
        'classifier = "odd_networks:Odd"',
        "is a function, which is called only where",
    ),
    "a number": ('classifier = "odd_networks:number"', "must be a torch.nn.Module, a class of such, or"),
    "a module with words": (
        'classifier = { network = "odd_networks:made", params = { n = 3 } }',
        '"odd_networks:made" is made already: it takes no params',
    ),
    "a command": (
        'classifier = { network = "os:system", params = { command = "touch called" } }',
        "os is not imported: commands and Python's own modules are no plug-ins",
    ),
    "a module above": ('classifier = "../odd_networks:small"', 'is not "module:attribute", both of letters'),
    "a program at nobody's": ('classifier = "~nobody-here/x.pt"', "no ~nobody-here/x.pt or weights"),
    "a long number": (f"at = [{DIGITS}]", "a whole number has thousands of digits; the largest is 2^63 - 1"),
    "a long hexadecimal": (f"seed = 0x{'f' * 9000}", "s.toml holds a whole number beyond the range of -2^63"),
    "a deep list": (
        f"at = {DEEP}",
        "s.toml is not valid TOML: tables and lists lie within each other deeper",
    ),
    "a deep key": (
        "a" + ".a" * 1000 + " = 1",
        "s.toml holds tables and lists deeper within each other than 50",
    ),
    "many repeats": ("repeats = 1000000000000", "repeats: found 1000000000000; input should be less than or"),
    "many votes": ("votes = 1000000000000", "votes: found 1000000000000; input should be less than or equal"),
    "many rows": (
        "batch = 1000000000000",
        "batch: found 1000000000000; input should be less than or equal to",
    ),
    "large shards": (
        "shard = 1000000000000",
        "shard: found 1000000000000; input should be less than or equal",
    ),
    "many classes asked": ("radii = [1000000000000]", 'radii: they need objective "minimum"; the threat'),
    "counts beyond": ("at = [1000000000000]", "at: found 1000000000000; counts go up to the budget 5"),
    "large images": (
        'dataset = { name = "imagenet", path = ".", size = 1000000000000 }\nclassifier = "resnet50"',
        "dataset.size: found 1000000000000; input should be less than or equal to 4096",
    ),
    "no classes": (
        'classifier = { network = "resnet20", params = { classes = 0 } }',
        "classes: found 0; it must",
    ),
    "many classes": (
        'classifier = { network = "resnet20", params = { classes = 1000000000000 } }',
        "classes: found 1000000000000; it must be a whole number from 2 to 100,000",
    ),
    "a title that moves the cursor": (
        'title = "a\\u001b[31mb"',
        "title: found 'a\\x1b[31mb'; it must be text",
    ),
    "a title of two lines": ('title = "a\\nb"', "it must be text of at most 200 printable characters"),
    "a long title": (f'title = "{LONG}"', "it must be text of at most 200 printable characters, on one line"),
    "a data set's odd name": ('dataset = "a\\nb"', 'there is no data set "a b"; allowed: cifar10, digits'),
    "a key of two lines": ('"a\\nb" = 1', "a b: there is no such key; allowed: at, attackers"),
    "a long path of data": (
        f'dataset = {{ name = "npz", path = "{LONG}" }}\nclassifier = "resnet20"',
        'data set "npz": no xxx',
    ),
    "long weights": (f'classifier = {{ network = "digits-cnn", weights = "{LONG}.pth" }}', "weights"),
    "a long program": (f'classifier = "{LONG}.pt"', "program"),
    "a null in a path": ('classifier = { network = "digits-cnn", weights = "a\\u0000.pth" }', "no a .pth or"),
    "timm's other places": (
        'classifier = { network = "timm:resnet18", params = { checkpoint_path = "x" } }',
        'params: "checkpoint_path" says where weights come from; give the classifier the key weights',
    ),
}
"""What stands before the lists and the threat, and a part of what is told."""


@pytest.mark.parametrize(("text", "part"), SCENARIOS.values(), ids=SCENARIOS)
def test_a_scenario_is_refused_in_a_sentence(here: Path, text: str, part: str) -> None:
    assert part in scenario(f"{text}\n{BASE}", "--log", "x.db")
    assert part in scenario(f"{text}\n{BASE}", "--dry-run")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (LISTS + RULES.replace("5", DIGITS), "a whole number has thousands of digits"),
        (LISTS + RULES.replace("5", "1000000000000"), "threat.budget: found 1000000000000; input should be"),
        (BASE + "accounts = 1000000000000\n", "threat.accounts: found 1000000000000; input should be less"),
        (
            BASE + "resources = { images = 1000000000000 }\n",
            "the attacker 1,000,000,000,000 images; its split",
        ),
        (BASE + "resources = { images = 100000, starts = true }\n", "grant the attacker 100,000 images; its"),
        (BASE.replace("games = 2", "games = 100000"), "games: found 100000; classifier digits-cnn gets"),
        (
            BASE.replace("[]", "").replace(
                '"square"', '{ name = "eot", of = ' * 300 + '"square"' + " }" * 300
            ),
            "deep",
        ),
        (BASE.replace('"square"', '{ name = "eot", of = { name = "os:system" } }'), "os is not imported"),
        (
            BASE.replace('"none"', '{ stack = ["none", { name = "odd_networks:small" }] }'),
            "must be a subclass of",
        ),
        (BASE.replace('"square"', '"odd_networks:Odd"'), '"odd_networks:Odd" must be a subclass of Attacker'),
        (LISTS + "threat = { epsilon = 0.2, budget = 5 }\n" + "[[block]]\n" * 20_000, "found 20,000 of them"),
        (
            f"threats = [{'{ epsilon = 0.2, budget = 5 }, ' * 20_000}]\n{LISTS}",
            "found 20,000 matches; 10,000",
        ),
        ("at = [" + '"a", ' * 1000 + f"]\n{BASE}", ""),
        ("#" * 2_000_000, "s.toml is larger than a scenario may be, 1,048,576 bytes"),
        (
            f'size = "../x"\n{BASE}[sizes."../x"]\n',
            "sizes: found the name '../x'; allowed are at most 50 letters",
        ),
        (
            f'size = "a/b"\n{BASE}[sizes."a/b"]\n',
            "sizes: found the name 'a/b'; allowed are at most 50 letters",
        ),
        (f'size = ".."\n{BASE}[sizes.".."]\n', "sizes: found the name '..'; allowed are at most 50 letters"),
        (
            f'size = "a\\u001b"\n{BASE}[sizes."a\\u001b"]\n',
            "sizes: found the name 'a\\x1b'; allowed are at most",
        ),
        (
            BASE + "".join(f"[sizes.s{n}]\n" for n in range(5000)),
            "sizes: found 5,000 of them; 20 are allowed",
        ),
        (BASE + '[[block]]\ntitle = "a\\u001b[2J"\n', "block 1: title: found 'a\\x1b[2J'; it must be text"),
    ],
    ids=range(20),
)
def test_a_whole_scenario_is_refused_in_a_sentence(here: Path, text: str, part: str) -> None:
    if not part:  # many faults: ten of them, and how many more
        Path("s.toml").write_text(text)
        result = CliRunner().invoke(app, ["play", "s.toml", "--dry-run"])
        assert result.exit_code == 2 and result.output.count("\n") == 11
        assert result.output.endswith("... and 990 more faults like these\n")
        return
    assert part in scenario(text, "--log", "x.db")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (
            ["play", "quickstart", "--dry-run", "--device", "meta"],
            'there is no device "meta" here; allowed: "auto"',
        ),
        (["evaluate", "--device", "meta"], 'there is no device "meta" here'),
        (["evaluate", "--device", "cpu:99"], 'there is no device "cpu:99" here'),
        (["train", "digits-cnn", "digits", "--device", "meta"], 'there is no device "meta" here'),
        (
            ["play", "quickstart", "--dry-run", "--attacker", f"square:p={DIGITS}"],
            'parameter "p" (float): found',
        ),
        (["play", "quickstart", "--dry-run", "--attacker", DEEP], "--attacker: '[[[["),
        (["play", "quickstart", "--dry-run", "--defender", "{ a = " * 5000], "--defender: '{ a ="),
        (
            ["play", "quickstart", "--dry-run", "--attacker", f"eot:of={DEEP}"],
            'there is no attacker "[[[[',
        ),
        (["play", "quickstart", "--dry-run", "--trust", "my:net"], "--trust: no classifier here is 'my:net'"),
        (["play", LONG, "--dry-run"], "there is no scenario file xxx"),
        (["play", "x/" * 3000 + "y.toml", "--dry-run"], "there is no scenario file x/x/"),
        (["play", "quickstart", "--log", LONG], "has a name longer than files may have"),
        (["play", "quickstart", "--log", "d/" * 3000 + "x.db"], "has a name longer than files may have"),
        (["play", "quickstart", "--log", "/dev/full"], "log /dev/full is neither a file nor a folder"),
        (["play", "mnist", "--dry-run", "--data", LONG], 'data set "mnist": no mnist or'),
        (["runs", LONG], "has a name longer than files may have"),
        (["report", LONG], "has a name longer than files may have"),
        (["export", LONG], "has a name longer than files may have"),
        (["evaluate", "--network", DEEP], "--network: '[[[["),
        (
            ["evaluate", "--network", '{"network": "os:system", "params": {"command": "touch called"}}'],
            "os is not",
        ),
        (
            ["evaluate", "--dataset", f'{{"name": "imagenet", "size": {DIGITS}}}', "--network", "x"],
            "--dataset: '{",
        ),
        (["evaluate", "--weights", f"{LONG}.pth"], "weights"),
        (["evaluate", "--split", "\x1b[31m"], "--split: there is no split"),
        (["check", DEEP], "'[[[["),
        (["check", "os:system"], "os is not imported"),
        (["agents", "show", "odd_networks:small"], "must be a subclass of"),
        (["train", "digits-cnn", "digits", "--set", f"rate={DEEP}"], "recipe: rate: found '[[[["),
        (
            ["train", "digits-cnn", "digits", "--set", "epochs=1000000000000"],
            "recipe: epochs: found 1000000000000",
        ),
        (["train", "digits-cnn", "digits", "--set", "iterations=1000000000000"], "recipe: iterations: found"),
        (["train", "digits-cnn", "digits", "--set", f"batch={DIGITS}"], "recipe: batch: found '9999"),
        (
            ["train", "digits-cnn", "digits", "--param", "classes=1000000000000"],
            "classes: found 1000000000000",
        ),
        (["train", "nothing", "digits"], 'there is no network "nothing"'),
        (
            ["train", "digits-cnn", "digits", "--out", f"new/{LONG}.safetensors"],
            "has a name longer than files",
        ),
        (["train", "digits-cnn", "digits", "--path", "x"], 'data set "digits" has no key "path"'),
    ],
    ids=range(34),
)
def test_words_are_refused_in_a_sentence(here: Path, words: list[str], part: str) -> None:
    assert part in told(*words)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [pipe, circle, zeros])
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("f.toml", ["play", "f.toml"]),
        ("f.toml", ["evaluate", "f.toml"]),
        ("f.db", ["play", "quickstart", "--log", "f.db"]),
        ("f.db", ["runs", "f.db"]),
        ("f.db", ["report", "f.db"]),
        ("f.db", ["export", "f.db"]),
        ("f.pth", ["evaluate", "--weights", "f.pth"]),
        ("f.safetensors", ["evaluate", "--weights", "f.safetensors"]),
        ("f.pt", ["evaluate", "--network", "f.pt"]),
        ("f.pt2", ["evaluate", "--network", "f.pt2"]),
        ("f.onnx", ["evaluate", "--network", "f.onnx"]),
        ("f.npz", ["evaluate", "--network", "x", "--dataset", '{"name": "npz", "path": "f.npz"}']),
        ("f", ["evaluate", "--network", "x", "--dataset", '{"name": "mnist", "path": "f"}']),
        ("f.safetensors", ["train", "digits-cnn", "digits", "--out", "f.safetensors"]),
        ("f.safetensors.part", ["train", "digits-cnn", "digits", "--out", "f.safetensors"]),
    ],
    ids=str,
)
def test_what_would_block_is_not_opened(
    here: Path, make: Callable[[Path], None], place: str, words: list[str]
) -> None:
    make(here / place)
    assert re.search(rf"{re.escape(place)} is neither a file nor a folder, but a pipe", told(*words))


@pytest.mark.parametrize("make", [pipe, circle, zeros])
def test_nor_is_it_among_images(here: Path, make: Callable[[Path], None]) -> None:
    for name in "ab":
        (here / "images" / name).mkdir(parents=True)
        for n in range(12):
            make(here / "images" / name / f"{n}.png")
    network = ["--network", "odd_networks:made", "--device", "cpu"]
    said = told("evaluate", *network, "--dataset", '{"name": "imagenet", "path": "images", "size": 16}')
    assert ".png is neither a file nor a folder" in said


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (npz("(1000000, 1000000)"), "cannot be read as an .npz file"),
        (npz(f"(1{'0' * 4000},)"), "cannot be read as an .npz file"),
        (npz("(" * 300 + ")" * 300), "cannot be read as an .npz file"),
        (npz("(-1, 28, 28)"), "cannot be read as an .npz file"),
        (npz("(100, 1, 1)", "|O"), "cannot be read as an .npz file"),
        (b"PK\x03\x04" + bytes(100), "is no .npz file, or cut short"),
    ],
    ids=range(6),
)
def test_arrays_that_are_not_what_they_say(here: Path, content: bytes, part: str) -> None:
    Path("d.npz").write_bytes(content)
    assert part in told("evaluate", "--network", "x", "--dataset", '{"name": "npz", "path": "d.npz"}')


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--weights", "f.pth"],
        ["evaluate", "--weights", "f.safetensors"],
        ["evaluate", "--network", "f.pt"],
        ["evaluate", "--network", "f.onnx"],
    ],
    ids=str,
)
def test_a_file_larger_than_the_memory_is_not_read(here: Path, words: list[str]) -> None:
    Path(words[-1]).touch()
    os.truncate(words[-1], 2**43)  # holes: it takes no room
    assert "more than this machine's memory" in told(*words)


def test_a_trusted_function_is_called_and_no_other(here: Path) -> None:
    Path("s.toml").write_text('classifier = "odd_networks:small"\ndataset = "digits"\n' + BASE)
    words = ["play", "s.toml", "--device", "cpu", "--dry-run", "--trust", "odd_networks:small"]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, Path("called").exists()) == (0, True), result.output


def test_markup_and_escapes_of_a_title_are_shown_as_they_are(here: Path) -> None:
    Path("s.toml").write_text('title = "[red]a[/] [link=x]b"\n' + BASE)
    result = CliRunner().invoke(app, ["play", "s.toml", "--device", "cpu", "--dry-run"])
    assert result.exit_code == 0 and "[red]a[/] [link=x]b" in result.output and "\x1b" not in result.output
