"""Image files against arrays they were made of, and against Pillow's and torch's own arithmetic."""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from arena.datasets import Dataset, DatasetError
from arena.datasets.files import ImageFiles, read_image


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def planes(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels.transpose(2, 0, 1)


def read(path: Path, size: int = 16) -> NDArray[np.uint8]:
    return read_image(path, size)


def test_an_image_of_the_size_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = noise(16, 16, 3)
    assert np.array_equal(read(save(tmp_path / "a.png", pixels)), planes(pixels))


def test_files_are_a_source_of_images(tmp_path: Path) -> None:
    pixels = [noise(16, 16, 3) ^ n for n in range(6)]
    names = [save(tmp_path / f"{n}.png", p).name for n, p in enumerate(pixels)]
    files = ImageFiles(tmp_path, names, 16)
    assert (list(files.shape), files.dtype) == ([6, 3, 16, 16], torch.uint8)
    found = files[torch.tensor([4, 0, 4])]
    assert np.array_equal(found.numpy(), np.stack([planes(pixels[n]) for n in (4, 0, 4)]))
    assert files[torch.tensor([], dtype=torch.int64)].shape == (0, 3, 16, 16)
    some = files.only(torch.tensor([4, 1]))
    assert (some.shape[0], list(some.names)) == (2, [names[4], names[1]])
    assert np.array_equal(some[torch.tensor([1])][0].numpy(), planes(pixels[1]))


@pytest.mark.parametrize("shape", [(64, 64), (64, 96), (150, 64)])
def test_larger_images_are_averaged_down_and_cut_in_the_centre(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    """Against a triangle filter as wide as the reduction, in float64; 14 * 256 / 224 = 16."""
    pixels, size = noise(*shape, 3), 14
    found = read(save(tmp_path / "a.png", pixels), size)
    height, width = (16 * side // 64 for side in shape)
    rows, columns = triangle(shape[0], height), triangle(shape[1], width)
    small = np.einsum("hi,wj,ijc->chw", rows, columns, pixels.astype(np.float64))
    top, left = round((height - size) / 2), round((width - size) / 2)
    expected = small[:, top : top + size, left : left + size]
    assert np.abs(found - expected).max() < 1.1  # Pillow rounds after each axis


def triangle(old: int, new: int) -> NDArray[np.float64]:
    """[new,old] weights of bilinear interpolation with antialiasing."""
    scale = old / new
    centres = (np.arange(new)[:, None] + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(old)[None] + 0.5 - centres) / scale)
    total: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return total


def test_smaller_images_are_enlarged(tmp_path: Path) -> None:
    assert np.array_equal(
        read(save(tmp_path / "a.png", np.full((3, 5, 3), 77, np.uint8))), np.full((3, 16, 16), 77)
    )


def test_grey_and_palette_become_rgb(tmp_path: Path) -> None:
    grey = noise(16, 16)
    assert np.array_equal(read(save(tmp_path / "a.png", grey)), np.stack([grey] * 3))
    bits = Image.fromarray(grey).convert("1")
    bits.save(tmp_path / "b.png")
    assert np.array_equal(read(tmp_path / "b.png"), np.stack([np.asarray(bits).astype(np.uint8) * 255] * 3))
    palette = Image.fromarray(noise(16, 16, 3)).quantize(7)
    palette.save(tmp_path / "c.png")
    assert np.array_equal(read(tmp_path / "c.png"), planes(np.asarray(palette.convert("RGB"))))


def test_sixteen_bits_are_rounded_to_eight(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    expected = (levels / 65535 * 255).round().astype(np.uint8)
    assert np.array_equal(read(save(tmp_path / "a.png", levels)), np.stack([expected] * 3))


def test_cmyk_and_transparency(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read(tmp_path / "a.jpg").astype(int) - np.array([255, 0, 0]).reshape(3, 1, 1)).max() <= 3
    clear = np.zeros((16, 16, 4), np.uint8)
    clear[:8, :, 3] = 255
    found = read(save(tmp_path / "b.png", clear))
    assert (found[:, :8] == 0).all()
    assert (found[:, 8:] == 255).all()


def test_photographs_are_turned_as_they_say(tmp_path: Path) -> None:
    pixels, exif = noise(16, 16, 3), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    found = read(save(tmp_path / "a.png", pixels, exif=exif))
    assert np.array_equal(found, planes(np.rot90(pixels, -1)))


def test_broken_exif_is_no_reason_to_refuse(tmp_path: Path) -> None:
    pixels = np.full((16, 16, 3), 128, np.uint8)
    found = read(save(tmp_path / "a.jpg", pixels, exif=b"Exif\x00\x00no TIFF header at all"))
    assert np.abs(found.astype(int) - 128).max() <= 1


def broken(tmp_path: Path, what: str) -> Path:
    path = tmp_path / "a.png"
    if what == "bomb":
        header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
        data = zlib.compress(b"")
        chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
        parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    elif what == "long":
        Image.new("L", (200_000, 1)).save(path)
    elif what == "float":
        path = save(tmp_path / "a.tiff", np.zeros((16, 16), np.float32))
    elif what == "program":
        Image.new("RGB", (16, 16)).save(path, format="EPS")
    elif what == "none":
        pass
    else:
        path = save(tmp_path / "a.jpg", noise(64, 64, 3), quality=95)
        whole = path.read_bytes()
        path.write_bytes({"empty": b"", "text": b"hello", "cut": whole[: len(whole) // 2]}[what])
    return path


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("empty", "is empty"),
        ("text", "holds none of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"),
        ("program", "holds none of BMP, GIF"),
        ("cut", "cannot be read as an image: .*truncated"),
        ("none", "cannot be read as an image: No such file or directory"),
        ("bomb", "claims more than 89,000,000 pixels, too many to be decoded safely"),
        ("long", "200000 x 1 pixels are too long for a centre of 1600"),
        ("float", "its pixels are floats of no known range"),
    ],
)
def test_an_unreadable_image_is_named_when_it_is_read(tmp_path: Path, what: str, told: str) -> None:
    good = save(tmp_path / "good.png", noise(16, 16, 3)).name
    path = broken(tmp_path, what)
    files = ImageFiles(tmp_path, [good, path.name], 1600 if what == "long" else 16)
    files[torch.tensor([0])]
    with pytest.raises(DatasetError, match=told) as caught:
        files[torch.tensor([0, 1, 0])]
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def data_of(folder: Path, names: list[str], size: int = 16) -> Dataset:
    index = {s: torch.tensor([n]) for n, s in enumerate(("train", "calibration", "resources", "games"))}
    return Dataset.cut("four", ImageFiles(folder, names, size), torch.zeros(4, dtype=torch.int64), index)


def test_sha_is_of_the_files_their_order_and_the_size(tmp_path: Path) -> None:
    names = [save(tmp_path / f"{n}.png", noise(20, 20, 3) ^ n).name for n in range(4)]
    sha = data_of(tmp_path, names).sha
    assert data_of(tmp_path, names).sha == sha
    assert data_of(tmp_path, names[::-1]).sha != sha
    assert data_of(tmp_path, names, 15).sha != sha
    (tmp_path / names[2]).rename(tmp_path / "renamed.png")
    assert data_of(tmp_path, [*names[:2], "renamed.png", names[3]]).sha == sha
    whole = bytearray((tmp_path / names[3]).read_bytes())
    whole[-1] ^= 1
    (tmp_path / names[3]).write_bytes(whole)
    assert data_of(tmp_path, [*names[:2], "renamed.png", names[3]]).sha != sha
    with pytest.raises(DatasetError, match=r"2\.png: cannot be read: No such file"):
        _ = data_of(tmp_path, names).sha


def test_contents_are_how_it_is_read_and_the_checksum_of_each_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", noise(8, 8, 3))
    how, digest = ImageFiles(tmp_path, ["a.png"], 224).contents()
    assert b"256" in how
    assert b"224" in how
    assert digest == hashlib.sha256(path.read_bytes()).digest()
