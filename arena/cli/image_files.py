"""Final images as files: one PNG a game, or one npz a match, written piece by piece."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from arena.cli.console import CommandError
from arena.log.exports import FinalImages

NUMBERS = ("game", "repeat", "image", "label")


def write_npz(path: Path, finals: Iterator[FinalImages], count: int, shape: tuple[int, ...]) -> None:
    """An npz of `final` [count,*shape] float32, exact, and of `game`, `repeat`, `image`, `label` [count]."""
    numbers: dict[str, list[np.ndarray[tuple[int], np.dtype[np.int64]]]] = {name: [] for name in NUMBERS}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("final.npy", "w", force_zip64=True) as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (count, *shape)}
            np.lib.format.write_array_header_2_0(file, header)
            for piece in finals:
                file.write(piece.final.astype("<f4").tobytes())
                for name in NUMBERS:
                    numbers[name].append(getattr(piece, name))
        for name, parts in numbers.items():
            with archive.open(f"{name}.npy", "w") as file:
                whole = np.concatenate(parts) if parts else np.zeros(0, np.int64)
                np.lib.format.write_array(file, whole)


def write_pngs(folder: Path, finals: Iterator[FinalImages], shape: tuple[int, ...]) -> int:
    """A PNG of 8 bits a game, named after the game's id; returns how many.

    Raises:
        CommandError: if the images have neither one nor three channels.
    """
    if shape[0] not in (1, 3):
        raise CommandError(f"--images png: a PNG holds 1 or 3 channels, these images {shape[0]}; take npz")
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for piece in finals:
        pixels = np.rint(255 * piece.final).astype(np.uint8)
        for game, image in zip(piece.game.tolist(), pixels, strict=True):
            shown = image[0] if shape[0] == 1 else image.transpose(1, 2, 0)
            Image.fromarray(shown).save(folder / f"game-{game}.png")
            count += 1
    return count
