"""Agents by name: what is found, what is built, and what a mistake is told."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from arena.players import Attacker, Defender, Games, Play, registry
from arena.players.registry import (
    AgentError,
    agent_class,
    build_attacker,
    build_defender,
    build_stack,
    name_of,
    names,
    parameters_of,
    public_parameters,
)


@dataclass(frozen=True)
class Toy(Attacker):
    """A toy."""

    size: float
    words: tuple[str, ...] = ()
    of: Attacker | None = None

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"size must not be negative; found {self.size}")

    def play(self, games: Games) -> Play:
        yield from ()


class Bare(Attacker):
    def play(self, games: Games) -> Play:
        yield from ()


def test_every_installed_agent_is_found_by_its_name():
    for kind, base in (("attacker", Attacker), ("defender", Defender)):
        assert names(kind)
        for name in names(kind):
            found = agent_class(kind, name)
            assert issubclass(found, base)
            assert found.__doc__


def test_a_name_and_its_class_are_each_others_inverse():
    for name in ("none", "snd", "rnd"):
        assert name_of(build_defender(name)) == name
    assert name_of(Toy(1.0)) == f"{__name__}:Toy"


@dataclass(frozen=True)
class Plain(Attacker):
    size: float = 2.0

    def play(self, games: Games) -> Play:
        yield from ()


@dataclass(frozen=True)
class Around(Attacker):
    of: Attacker
    others: tuple[Attacker, ...] = ()

    def play(self, games: Games) -> Play:
        yield from ()


def test_a_class_stands_for_its_instance_with_default_parameters_inside_wrappers_too():
    assert build_attacker(Plain) == Plain()
    assert build_attacker({"name": "eot", "of": Plain}).of == Plain()
    assert build_attacker(Around(of=Plain, others=(Plain, Plain(1.0)))) == Around(
        Plain(), (Plain(), Plain(1.0))
    )
    assert build_attacker(Around(of=Around(of=Plain))) == Around(Around(Plain()))
    none, snd = (type(build_defender(name)) for name in ("none", "snd"))
    assert build_stack(snd) == (snd(),)
    assert build_stack([snd, none]) == (snd(), none())


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            Around,
            f'attacker "{__name__}:Around" needs parameter "of" (Attacker): give an instance, Around',
        ),
        (int, 'attacker "builtins:int" must be a subclass of Attacker'),
        (Bare, "must be a dataclass(frozen=True)"),
        (Around(of=Toy), 'Toy" needs parameter "size" (float): give an instance, Toy(...), not the class'),  # type: ignore[arg-type]
    ],
)
def test_a_class_that_cannot_stand_for_an_instance_is_told(spec, said):
    with pytest.raises(AgentError, match=re.escape(said)):
        build_attacker(spec)


def test_parameters_are_given_by_name_and_wrappers_take_agents():
    eot = build_attacker({"name": "eot", "repeats": 3, "of": {"name": "square", "p": 0.3}})
    assert (eot.repeats, eot.of.p) == (3, 0.3)
    assert build_attacker(eot) is eot
    assert [type(d).__name__ for d in build_stack({"stack": ["snd", {"name": "rnd", "nu": 0.1}]})] == [
        "SND",
        "RND",
    ]
    assert len(build_stack("none")) == 1


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("sqare", 'there is no attacker "sqare"; did you mean "square"? allowed: account-rotation'),
        (
            "no.such.module:Attack",
            'attacker "no.such.module:Attack": no.such.module cannot be imported: ModuleNotFoundError',
        ),
        ("arena.players.registry:near", '"arena.players.registry:near" must be a subclass of Attacker'),
        ({"name": "square", "rescal": True}, 'has no parameter "rescal"; did you mean "rescale"?'),
        ({"name": "square", "p": "much"}, 'attacker "square", parameter "p" (float): found \'much\''),
        ({"name": "square", "p": 3.0}, 'attacker "square": p must be above 0'),
        ({"name": "eot"}, 'attacker "eot" needs parameter "of"'),
        ({"name": "eot", "of": "snd"}, 'there is no attacker "snd"'),
        (["square"], "attacker must be a name or a table with a name"),
        ({"p": 0.1}, "attacker must be a name or a table with a name"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(spec, said):
    with pytest.raises(AgentError) as caught:
        build_attacker(spec)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stack_has_no_other_keys():
    with pytest.raises(AgentError, match="a stack of defenders is"):
        build_stack({"stack": ["snd"], "name": "snd"})


@pytest.mark.parametrize("spec", [[], {"stack": []}])
def test_a_stack_holds_at_least_one_defender(spec):
    with pytest.raises(AgentError, match="must hold at least one"):
        build_stack(spec)


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Two installed distributions that both declare the defender "twin", and one that is broken."""
    for name, entries in {
        "one": "twin = arena_one:Twin",
        "two": "twin = agents.defenders.snd:SND\nnone = agents.defenders.none:NoDefense",
        "bad": "broken = arena_broken:Thing",
    }.items():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[arena.defenders]\n{entries}\n")
    (tmp_path / "arena_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry._entries.cache_clear(), registry._clashes.cache_clear()
    yield
    registry._entries.cache_clear(), registry._clashes.cache_clear()


@pytest.mark.usefixtures("plugins")
def test_a_name_declared_for_two_classes_is_refused_and_both_are_named():
    assert "twin" in names("defender")
    with pytest.raises(AgentError, match=r"as agents\.defenders\.snd:SND and arena_one:Twin;"):
        build_defender("twin")
    snd = build_defender("agents.defenders.snd:SND")
    assert name_of(snd) == "snd"
    assert name_of(build_defender("none")) == "none"


@pytest.mark.usefixtures("plugins")
def test_a_plugin_that_fails_as_it_is_imported_is_told_in_a_sentence():
    with pytest.raises(AgentError, match='"broken" cannot be imported: ZeroDivisionError: division by zero'):
        agent_class("defender", "broken")


def test_an_agent_must_be_a_dataclass(monkeypatch):
    monkeypatch.setattr("arena.players.registry._entries", lambda kind: {})
    monkeypatch.setattr("arena.players.seat.Bare", Bare, raising=False)
    with pytest.raises(AgentError, match="must be a dataclass"):
        agent_class("attacker", "arena.players.seat:Bare")


def test_parameters_are_listed_with_types_and_defaults():
    shown = {p.name: (p.type, p.default) for p in parameters_of(Toy)}
    assert shown["size"] == ("float", "required")
    assert shown["words"] == ("tuple[str, ...]", "()")


@dataclass(frozen=True)
class Keyed(Defender):
    strength: float = 2.0
    seed: int = 11
    salt: int = 12

    secrets = ("seed", "salt")


@dataclass(frozen=True)
class Veiled(Defender):
    of: Defender


def test_an_attacker_that_knows_the_defense_is_told_no_keys_salts_or_seeds() -> None:
    shown = public_parameters([Keyed(), build_stack("snd")[0], Veiled(Keyed())])
    assert shown["defenders"][2]["of"] == {"agent": "Keyed", "strength": 2.0}
    assert shown["defenders"][0] == {"name": name_of(Keyed()), "strength": 2.0}
    assert shown["defenders"][1] == {"name": "snd", "sigma": 0.01, "beta": None, "clamp": False}


def test_an_instance_whose_types_cannot_be_looked_up_is_taken() -> None:
    from typing import Literal

    class Elsewhere: ...

    @dataclass(frozen=True)
    class Mine(Defender):
        """Mine."""

        word: Literal["one"] = "one"
        other: Elsewhere | None = None

    assert build_defender(Mine(other=Elsewhere())).other is not None  # type: ignore[attr-defined]
