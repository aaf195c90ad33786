"""The data sets that can be downloaded: from where, with which checksums, and into which folder."""

from __future__ import annotations

import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from arena.datasets.dataset import DatasetError
from arena.inputs.places import expanded

TIMEOUT = 30
"""Seconds without a byte after which a download is abandoned."""


@dataclass(frozen=True)
class File:
    """A file to fetch.

    Attributes:
        name: the file's name on its servers; an archive (.zip, .tar.gz) is unpacked.
        checksum: its SHA-256 or MD5, "sha256:..." or "md5:...".
        into: the folder that it is put, or unpacked, into.
    """

    name: str
    checksum: str
    into: str = "."


@dataclass(frozen=True)
class Download:
    """A data set to fetch.

    Attributes:
        folder: the name of the folder that its loader looks for.
        mirrors: URLs that end with "/", each of a folder with all files.
        by_hand: what to do with the files without this program; {to} is the folder that `folder` belongs in.
    """

    folder: str
    mirrors: tuple[str, ...]
    files: tuple[File, ...]
    by_hand: str


def _idx(folder: str, mirrors: tuple[str, ...], *checksums: str) -> Download:
    kinds = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    files = tuple(
        File(f"{kind}-ubyte.gz", f"sha256:{c}", folder) for kind, c in zip(kinds, checksums, strict=True)
    )
    return Download(folder, mirrors, files, f"put them into {{to}}/{folder}")


# MNIST's SHA-256 were computed from files that have the official MD5; those of Fashion-MNIST and CIFAR-10 are
# published beside the official MD5 by several projects; of GTSRB's archives only the MD5 are known.
DOWNLOADS = {
    "cifar10": Download(
        "cifar-10-batches-bin",
        ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
        (
            File(
                "cifar-10-binary.tar.gz",
                "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
        "unpack it in {to}",
    ),
    "fashion-mnist": _idx(
        "fashion-mnist",
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    "gtsrb": Download(
        "GTSRB",
        ("https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/",),
        (
            File("GTSRB_Final_Training_Images.zip", "md5:f33fd80ac59bff73c82d25ab499e03a3"),
            File("GTSRB_Final_Test_Images.zip", "md5:c7e4e6327067d32654124b0fe9e82185"),
            File("GTSRB_Final_Test_GT.zip", "md5:fe31e9c9270bbcd7b84b7f21a9d9d9e5", "GTSRB"),
        ),
        "unpack the first two in {to} and the third in {to}/GTSRB",
    ),
    "mnist": _idx(
        "mnist",
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
}


def fetch(name: str, to: Path, bar: Callable[[str], Any] = lambda file: False) -> Path:
    """Fetch a data set into a folder, check and unpack it; the folder that its loader looks for.

    Everything is done in a hidden folder within `to` and moved into place at the end, so that an interrupted
    download leaves nothing that a loader would read.

    Args:
        bar: makes the progress bar, as pooch takes them, of a file of this name.

    Raises:
        DatasetError: if no server gives a file with the right checksum, an archive holds paths that lead out
            of it, the folder is there already, or cannot be written.
    """
    download, to = DOWNLOADS[name], expanded(to).absolute()
    place = to / download.folder
    if place.exists():
        raise DatasetError(f"{place} is there already; remove it to fetch it again")
    try:
        to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=to) as work:
            packed, unpacked = Path(work) / "packed", Path(work) / "unpacked"
            for file in download.files:
                found = _download(name, download, file, packed, to, bar(file.name))
                _unpack(found, unpacked / file.into)
                found.unlink(missing_ok=True)
            (unpacked / download.folder).replace(place)
    except OSError as error:
        raise DatasetError(f"{to}: cannot be written: {error.strerror or error}") from error
    return place


def _download(name: str, download: Download, file: File, folder: Path, to: Path, bar: Any) -> Path:
    import pooch  # loads requests

    pooch.get_logger().setLevel("ERROR")
    headers = {"Accept-Encoding": "identity"}  # else requests unpacks what a server packed, .gz files too
    tried = []
    for mirror in download.mirrors:
        server = pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT, headers=headers)
        try:
            url = mirror + file.name
            return Path(pooch.retrieve(url, file.checksum, file.name, folder, downloader=server))
        except OSError as error:
            if error.errno is not None:  # an error of this disk; those of requests have no errno
                raise
            answer = getattr(error, "response", None)
            what = "no connection, or it broke off" if answer is None else f"HTTP status {answer.status_code}"
            tried.append(f"{urlsplit(mirror).netloc}: {what}")
        except ValueError:
            tried.append(f"{urlsplit(mirror).netloc}: wrong checksum, not {file.checksum}")
    urls = ", ".join(download.mirrors[0] + each.name for each in download.files)
    raise DatasetError(
        f'data set "{name}": {file.name} could not be fetched ({"; ".join(tried)}), and nothing was kept; by '
        f"hand: get {urls} and {download.by_hand.format(to=to)}"
    )


def _unpack(path: Path, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    _inside(name)
                archive.extractall(into)
        elif path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                archive.extractall(into, filter="data")
        else:
            path.rename(into / path.name)
    except (ValueError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path.name}: refused, and nothing was kept: {error}") from error


def _inside(name: str) -> None:
    """Refuse a name in an archive that leads out of it."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise ValueError(f"{name!r} would be unpacked outside the folder")
