from __future__ import annotations

import io
import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena.datasets.dataset import DatasetError
from arena.datasets.pickled import MOST_BYTES, MOST_STEPS, read_pickle

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


class Spy:
    """Unpickled freely, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self.path)!r}, 'w').close()",))


class Persistent(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return "somewhere else" if isinstance(obj, Spy) else None


def read(folder: Path, content: bytes) -> Any:
    path = folder / "data"
    path.write_bytes(content)
    return read_pickle(path)


def refusal(folder: Path, content: bytes) -> str:
    with pytest.raises(DatasetError) as caught:
        read(folder, content)
    told = str(caught.value)
    assert told.startswith(f"{folder / 'data'}: ")
    assert "\n" not in told
    assert len(told) < 500
    return told.removeprefix(f"{folder / 'data'}: ")


@settings(max_examples=30)
@given(value=PLAIN, protocol=st.integers(0, 5))
def test_plain_data_are_read_as_python_reads_them(
    tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int
) -> None:
    if protocol <= 2:  # which have no bytes: empty ones are a call of bytes()
        value = repr(value)
    assert read(tmp_path_factory.getbasetemp(), pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path, protocol: int, order: Any) -> None:
    x = np.asarray(np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8), order=order)
    frozen = x.copy(order)
    frozen.flags.writeable = False
    value = {"one": x, "again": [x, (x, 1)], "frozen": frozen, b"strided": x[::2, ::3]}
    found = read(tmp_path, pickle.dumps(value, protocol))
    assert found["one"] is found["again"][0] is found["again"][1][0]
    assert found["one"].dtype == np.uint8
    for array, like in ((found["one"], x), (found["frozen"], x), (found["strided"], x[::2, ::3])):
        assert np.array_equal(array, like)


def test_numpy_is_known_by_its_old_and_its_new_address(tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for protocol in (2, 3):
        new = pickle.dumps(x, protocol)
        old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        assert new != old
        assert np.array_equal(read(tmp_path, new), x)
        assert np.array_equal(read(tmp_path, old), x)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_run(tmp_path: Path, protocol: int) -> None:
    spied = tmp_path / "spied"
    content = pickle.dumps({"data": Spy(spied)}, protocol)
    told = refusal(tmp_path, content)
    assert not spied.exists()
    word = "builtins.exec" if protocol > 2 else "__builtin__.exec"
    assert told.startswith(f"refused, and nothing in it was run: it holds the name {word}; allowed are")
    pickle.loads(content)
    assert spied.exists()  # it would have


CALL = b"(X\x04\x00\x00\x00true"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x80\x02cos\nsystem\n" + CALL + b"tR.", "the name os.system"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.", "the name posix.system"),
        (CALL + b"ios\nsystem\n.", "the opcode INST of os.system"),
        (b"\x80\x02cnumpy\nload\n.", "the name numpy.load"),
        (b"\x80\x02cnumpy\nndarray.__class__\n.", "the name numpy.ndarray.__class__"),
        (b"\x80\x02cnumpy.core.multiarray\nscalar\n.", "the name numpy.core.multiarray.scalar"),
        (b"\x80\x02c__builtin__\neval\n.", "the name __builtin__.eval"),
        (b"\x80\x02(cnumpy\nndarray\nK\x00o.", "the opcode OBJ"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "the opcode NEWOBJ"),
        (b"\x80\x04cnumpy\nndarray\n)}\x92.", "the opcode NEWOBJ_EX"),
        (b"\x80\x02\x82\x01.", "the opcode EXT1"),
        (b"Psomewhere\n.", "the opcode PERSID of somewhere"),
        (b"\x80\x02K\x01Q.", "the opcode BINPERSID"),
        (b"\x80\x05\x97.", "the opcode NEXT_BUFFER"),
        (b"\x80\x02cnumpy\nndarray\n.", "a name where data belong"),
        (b"\x80\x02cnumpy\nndarray\n(K\x00tR.", "a call that no array is pickled with"),
        (b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00rottR.", "a call that no array"),
        (b"\x80\x02K\x01K\x02R.", "a call that no array is pickled with"),
        (b"\x80\x02}}b.", "a state that no array is pickled with"),
        (b"\x80\x02cnumpy\nndarray\n}b.", "a state that no array is pickled with"),
        (b"\x80\x02cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R}b.", "a state that no array is pickled with"),
        (b"\x80\x02}K\x01K\x02s.", "a key of type int"),
        (b"\x80\x02}K\x01K\x02\x86K\x02s.", "a key of type tuple"),
    ],
)
def test_what_data_do_not_need_is_refused_by_name(tmp_path: Path, content: bytes, told: str) -> None:
    assert refusal(tmp_path, content).startswith(f"refused, and nothing in it was run: it holds {told}")


def test_persistent_ids_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    Persistent(file, 4).dump([Spy(tmp_path)])
    assert "the opcode BINPERSID" in refusal(tmp_path, file.getvalue())


@pytest.mark.parametrize("kind", ["O", "U3", "f8", "i8", "V4", "?", "M8[s]"])
def test_arrays_of_other_types_are_refused(tmp_path: Path, kind: str) -> None:
    for protocol in (2, 4, 5):
        told = refusal(tmp_path, pickle.dumps(np.zeros(3, kind), protocol))
        assert "it holds a" in told


def state(shape: str, data: str = "T\x04\x00\x00\x00abcd", code: str = "U\x02u1") -> bytes:
    """An array of Python 2 with any shape, content and type."""
    dtype = f"cnumpy\ndtype\n({code}K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    made = "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    return f"\x80\x02{made}(K\x01({shape}t{dtype}\x89{data}tb.".encode("latin-1")


def test_an_array_as_python_2_writes_it(tmp_path: Path) -> None:
    content = state("K\x02K\x02")
    like = pickle.loads(content, encoding="bytes")
    assert np.array_equal(read(tmp_path, content), like)
    assert like.tolist() == [[97, 98], [99, 100]]


@pytest.mark.parametrize(
    "content",
    [
        state("K\x02K\x03"),
        state("J\xfe\xff\xff\xffJ\xfe\xff\xff\xff"),
        state("J\xff\xff\xff\x7fJ\xff\xff\xff\x7f"),
        state("\x8a\x09" + "\x00" * 8 + "\x01"),
        state("\x88K\x04"),
        state("U\x014"),
        state("K\x04", data="K\x04"),
        state("K\x04", data="X\x04\x00\x00\x00\xc4\x80\xc4\x80"),
        state("K\x02K\x02")[:-2] + b".",  # the state is left over
        state("K\x02K\x02") + b"more",
        b"",
        b"\x80",
        b"\x80\x02.",
        b"\x80\x02}",
        b"\x80\x02t.",
        b"\x80\x02R.",
        b"\x80\x02b.",
        b"\x80\x02u.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02K\x01(K\x01e.",
        b"\x80\x02h\x05.",
        b"\x80\x02q\x05.",
        b"<!DOCTYPE html>\n<html>",
        b"\x1f\x8b\x08\x00",
        b"\x80\x04\x8c\x02\xff\xff.",
        b"\x80\x02cos.",
        b"\x80\x02" + b"\x8b" + struct.pack("<i", -5) + b".",
        b"\x80\x04]]\x93.",
    ],
)
def test_damage_is_told(tmp_path: Path, content: bytes) -> None:
    assert refusal(tmp_path, content).startswith("is no pickle, cut short or damaged (")


HUGE = struct.pack("<Q", 2**62)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e" + HUGE + b"ab.",  # bytes
        b"\x80\x04\x8d" + HUGE + b"ab.",  # a text
        b"\x80\x05\x96" + HUGE + b"ab.",  # a bytearray
        b"\x80\x04\x95" + HUGE + b"ab.",  # a frame
        b"\x80\x02T\xff\xff\xff\x7fab.",
        b"\x80\x02B\xff\xff\xff\xffab.",
        b"\x80\x02\x8b\xff\xff\xff\x7fab.",  # a number
        b"\x80\x02" + b"(" * 2**19 + b".",
        b"\x80\x02" + b"]" * 2**19 + b".",
        b"\x80\x02)" + b"\x85" * 10**5 + b"}" + b"h\x00" * 2,  # deep tuples
        b"\x80\x02]q\x00" + b"h\x00h\x00\x86q\x00" * 90 + b"}h\x00K\x00s.",  # 2^90 steps to hash
    ],
)
def test_bombs_do_not_go_off(tmp_path: Path, content: bytes) -> None:
    refusal(tmp_path, content)


def test_a_memo_index_takes_no_room(tmp_path: Path) -> None:
    assert read(tmp_path, b"\x80\x02]r\xff\xff\xff\xff.") == []


def test_one_text_is_not_turned_into_bytes_again_and_again(tmp_path: Path) -> None:
    text = b"\x80\x02](X" + struct.pack("<I", 1000) + b"a" * 1000 + b"q\x00"
    again = b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR"
    assert "again and again" in refusal(tmp_path, text + again * 100 + b"e.")


def test_a_deep_list_is_no_harm(tmp_path: Path) -> None:
    n = 50_000
    value = read(tmp_path, b"\x80\x02" + b"]" * n + b"a" * (n - 1) + b".")
    for _ in range(n - 1):
        (value,) = value
    assert value == []


def test_limits(tmp_path: Path) -> None:
    assert read(tmp_path, b"\x80\x02N" + b"q\x00" * (MOST_STEPS - 3) + b".") is None
    assert "more than 262,144 opcodes" in refusal(tmp_path, b"\x80\x02N" + b"q\x00" * MOST_STEPS + b".")
    with (tmp_path / "data").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(DatasetError, match=r"67,108,865 bytes are too many; such a file has at most"):
        read_pickle(tmp_path / "data")


def test_the_machine_knows_no_opcode_that_there_is_not() -> None:
    from arena.datasets.pickled import CONSTANTS, LITERALS, TUPLES

    assert {*CONSTANTS, *LITERALS, *TUPLES} <= {opcode.name for opcode in pickletools.opcodes}
