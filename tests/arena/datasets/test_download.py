"""Fetching from a server of our own: small archives, in place of the official ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arena.datasets import DATASETS, DatasetError, load_dataset
from arena.datasets.cifar10 import RECORD
from arena.datasets.download import DOWNLOADS, Download, fetch


@dataclass
class Server:
    """What is served: bodies by name; those in `cut` break off half way."""

    url: str = ""
    bodies: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            served.asked.append(name)
            body = served.bodies.get(name)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if name in served.cut else body)

        def log_message(self, *_: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{http.server_port}/"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    http.shutdown()
    thread.join()
    http.server_close()


def offered(server: Server, name: str, bodies: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Download:
    """The data set `name` from our server: its table with these files' checksums."""
    server.bodies = dict(bodies)
    files = tuple(
        replace(file, checksum=f"sha256:{hashlib.sha256(bodies[file.name]).hexdigest()}")
        for file in DOWNLOADS[name].files
    )
    download = replace(DOWNLOADS[name], mirrors=(server.url,), files=files)
    monkeypatch.setitem(DOWNLOADS, name, download)
    return download


def tarred(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def cifar10() -> dict[str, bytes]:
    records = np.zeros((20, RECORD), np.uint8)
    records[:, 0] = np.arange(20) % 10
    return {"cifar-10-binary.tar.gz": tarred({"cifar-10-batches-bin/test_batch.bin": records.tobytes()})}


def mnist() -> dict[str, bytes]:
    def idx(shape: tuple[int, ...]) -> bytes:
        head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
        return gzip.compress(head + (np.arange(np.prod(shape)) % 10).astype(np.uint8).tobytes())

    return {
        "train-images-idx3-ubyte.gz": idx((40, 28, 28)),
        "train-labels-idx1-ubyte.gz": idx((40,)),
        "t10k-images-idx3-ubyte.gz": idx((20, 28, 28)),
        "t10k-labels-idx1-ubyte.gz": idx((20,)),
    }


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_an_archive_is_unpacked_where_its_loader_looks(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered(server, "cifar10", cifar10(), monkeypatch)
    place = fetch("cifar10", tmp_path / "new" / "folder")
    assert left_in(tmp_path / "new" / "folder") == [
        "cifar-10-batches-bin",
        "cifar-10-batches-bin/test_batch.bin",
    ]
    data = load_dataset("cifar10", [place.parent])
    assert sum(len(split) for split in data.splits.values()) == 20
    with pytest.raises(
        DatasetError, match="cifar-10-batches-bin is there already; remove it to fetch it again"
    ):
        fetch("cifar10", place.parent)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_idx_files_stay_packed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bodies = mnist()
    offered(server, name, bodies, monkeypatch)
    place = fetch(name, tmp_path)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == bodies
    data = load_dataset(name, [tmp_path])
    assert [len(split) for split in data.splits.values()] == [36, 2, 4, 18]


def gtsrb() -> dict[str, bytes]:
    """Three tracks of one picture for each of the 43 classes, two test images."""
    head = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
    picture = b"P6 4 4 255\n" + bytes(range(48))
    training: dict[str, bytes] = {}
    for label in range(43):
        folder, names = f"GTSRB/Final_Training/Images/{label:05}", [f"{t:05}_00000.ppm" for t in range(3)]
        table = head + "".join(f"{name};4;4;0;0;3;3;{label}\n" for name in names)
        training |= {f"{folder}/GT-{label:05}.csv": table.encode()} | {
            f"{folder}/{n}": picture for n in names
        }
    tests, table = (
        [f"{n:05}.ppm" for n in range(2)],
        head + "00000.ppm;4;4;0;0;3;3;7\n00001.ppm;4;4;0;0;3;3;9\n",
    )
    return {
        "GTSRB_Final_Training_Images.zip": zipped(training),
        "GTSRB_Final_Test_Images.zip": zipped({f"GTSRB/Final_Test/Images/{n}": picture for n in tests}),
        "GTSRB_Final_Test_GT.zip": zipped({"GT-final_test.csv": table.encode()}),
    }


def test_the_archives_of_gtsrb_make_one_folder(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered(server, "gtsrb", gtsrb(), monkeypatch)
    fetch("gtsrb", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["GTSRB"]
    data = load_dataset("gtsrb", [tmp_path])
    assert [len(split) for split in data.splits.values()] == [43 * 2, 1, 43, 1]
    assert {*data.calibration.labels.tolist(), *data.games.labels.tolist()} == {7, 9}


def test_another_mirror_is_asked(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download = offered(server, "cifar10", cifar10(), monkeypatch)
    gone = "http://127.0.0.1:9/"  # the port of "discard": nobody listens
    monkeypatch.setitem(DOWNLOADS, "cifar10", replace(download, mirrors=(gone, server.url)))
    assert fetch("cifar10", tmp_path).is_dir()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("tampered", "wrong checksum, not sha256:"),
        ("cut", "no connection, or it broke off"),
        ("missing", "HTTP status 404"),
        ("gone", "no connection, or it broke off"),
    ],
)
def test_what_does_not_come_whole_leaves_nothing_behind(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, told: str
) -> None:
    """The second of the four files is the bad one."""
    bodies, bad = mnist(), "train-labels-idx1-ubyte.gz"
    download = offered(server, "mnist", bodies, monkeypatch)
    if fault == "tampered":
        server.bodies[bad] = bodies[bad][:-1] + b"?"
    elif fault == "cut":
        server.cut.add(bad)
    elif fault == "missing":
        del server.bodies[bad]
    else:
        bad = "train-images-idx3-ubyte.gz"
        monkeypatch.setitem(DOWNLOADS, "mnist", replace(download, mirrors=("http://127.0.0.1:9/",)))
    with pytest.raises(DatasetError) as caught:
        fetch("mnist", tmp_path)
    said = str(caught.value)
    assert said.startswith(f'data set "mnist": {bad} could not be fetched (127.0.0.1:')
    assert told in said
    assert "by hand: get http" in said
    assert said.endswith(f"and put them into {tmp_path}/mnist")
    assert "\n" not in said
    assert left_in(tmp_path) == []


def test_an_interruption_leaves_nothing_behind(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered(server, "mnist", mnist(), monkeypatch)

    def bar(file: str) -> bool:
        if file.startswith("t10k"):
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        fetch("mnist", tmp_path, bar)
    assert server.asked == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("name", ["../outside", "/outside", "cifar-10-batches-bin/../../outside"])
def test_a_tar_that_leads_outside_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    body = tarred({"cifar-10-batches-bin/test_batch.bin": b"x", name: b"evil"})
    offered(server, "cifar10", {"cifar-10-binary.tar.gz": body}, monkeypatch)
    to = tmp_path / "a" / "b"
    if name == "/outside":  # tarfile takes the root off, which leaves it inside and out of the loader's way
        fetch("cifar10", to)
        assert not Path("/outside").exists()
    else:
        with pytest.raises(
            DatasetError, match=r"cifar-10-binary\.tar\.gz: refused, and nothing was kept: .*outside"
        ):
            fetch("cifar10", to)
        assert left_in(to) == []
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize(
    "name", ["../outside", "/outside", "GTSRB/../../outside", "..\\outside", "C:/outside"]
)
def test_a_zip_that_leads_outside_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bodies = {file.name: zipped({"GTSRB/a": b"x"}) for file in DOWNLOADS["gtsrb"].files}
    bodies["GTSRB_Final_Test_GT.zip"] = zipped({"GT-final_test.csv": b"c", name: b"evil"})
    offered(server, "gtsrb", bodies, monkeypatch)
    with pytest.raises(
        DatasetError, match=r"GTSRB_Final_Test_GT\.zip: refused, and nothing was kept: .*outside"
    ):
        fetch("gtsrb", tmp_path)
    assert left_in(tmp_path) == []


def test_a_link_in_a_tar_that_leads_outside_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo("cifar-10-batches-bin")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(info)
    offered(server, "cifar10", {"cifar-10-binary.tar.gz": file.getvalue()}, monkeypatch)
    with pytest.raises(DatasetError, match="refused, and nothing was kept"):
        fetch("cifar10", tmp_path)
    assert left_in(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"file/below: cannot be written: Not a directory"):
        fetch("mnist", tmp_path / "file" / "below")


def test_the_table_is_of_data_sets_and_whole() -> None:
    assert DOWNLOADS.keys() <= set(DATASETS)
    for download in DOWNLOADS.values():
        assert all(url.endswith("/") for url in download.mirrors)
        assert download.by_hand.format(to="there").count("there") >= 1
        for file in download.files:
            kind, _, digits = file.checksum.partition(":")
            assert len(digits) == {"sha256": 64, "md5": 32}[kind]
            int(digits, 16)


def test_checksums_are_those_of_the_official_files(shared_data: Path) -> None:
    """The shared MNIST files, whose MD5 are the official ones (checked here too)."""
    md5 = {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    }
    for file in DOWNLOADS["mnist"].files:
        content = (shared_data / "mnist" / file.name).read_bytes()
        assert hashlib.md5(content).hexdigest() == md5[file.name]
        assert "sha256:" + hashlib.sha256(content).hexdigest() == file.checksum


def test_the_official_files_are_found_after_fetching(
    server: Server, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the table's own checksums, from a server that has the official files."""
    files = {file.name: (shared_data / "mnist" / file.name).read_bytes() for file in DOWNLOADS["mnist"].files}
    server.bodies = files
    monkeypatch.setitem(DOWNLOADS, "mnist", replace(DOWNLOADS["mnist"], mirrors=(server.url,)))
    fetch("mnist", tmp_path)
    data = load_dataset("mnist", [tmp_path])
    assert [len(split) for split in data.splits.values()] == [54_000, 1_000, 6_000, 9_000]
