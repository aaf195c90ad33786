"""Images come back bit for bit."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from arena.log import LogError
from arena.log.images import pack, unpack


@given(arrays(np.float32, array_shapes(min_dims=4, max_dims=4, max_side=5), elements=st.floats(width=32)))
def test_images_come_back(images: np.ndarray) -> None:
    back = [unpack(final, images.shape[1:]) for final in pack(images)]
    assert np.stack(back).tobytes() == images.tobytes()


def test_the_bytes_are_those_documented() -> None:
    image = np.array([[[[1.0, -2.0]]]], dtype=">f4")
    assert zlib.decompress(pack(image)[0]) == bytes.fromhex("0000803f000000c0")
    back = unpack(pack(image)[0], (1, 1, 2))
    assert back.flags.writeable
    assert back.dtype == np.float32


@pytest.mark.parametrize("wrong", [b"no image", zlib.compress(bytes(4))])
def test_what_is_no_such_image_is_refused(wrong: bytes) -> None:
    with pytest.raises(LogError, match=r"a final image of shape \(1, 1, 2\) was expected"):
        unpack(wrong, (1, 1, 2))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(10**7))
    with pytest.raises(LogError, match=r"a final image of shape \(1, 1, 2\) was expected"):
        unpack(bomb, (1, 1, 2))
