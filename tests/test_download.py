"""Downloads from a local server that stands in for the mirrors."""

import gzip
import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy
import pytest

from tinygan import datasets
from tinygan.datasets import DataError, Originals, download, downloads, load
from tinygan.files import UsageError

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
PICTURES = numpy.random.default_rng(0).integers(256, size=(50, 28, 28), dtype=numpy.uint8)
FILES = {
    IMAGES: gzip.compress(
        b"\0\0\x08\x03" + numpy.array(PICTURES.shape, ">u4").tobytes() + PICTURES.tobytes()
    ),
    LABELS: gzip.compress(b"\0\0\x08\x01" + (50).to_bytes(4, "big") + bytes(range(10)) * 5),
}
CHECKSUMS = {
    file.partition("-idx")[0]: hashlib.sha256(content).hexdigest()
    for file, content in FILES.items()
}


class Mirror(BaseHTTPRequestHandler):
    """/good/FILE sends the file; the other folders answer as bad mirrors do."""

    def do_GET(self):
        kind, file = self.path.strip("/").split("/")
        self.server.asked.append(kind)
        content = FILES[file]
        if kind == "forbidden":
            return self.send_error(403)
        if kind == "garbled":
            return self.wfile.write(b"hello\r\n")
        if kind == "slow":
            self.server.finished.wait(20)  # far longer than the client's patience
        self.send_response(200)
        if kind != "unmeasured":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if kind == "truncated":
            content = content[:1000]
        if kind == "wrong":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if kind == "stalled":
            self.wfile.write(content[:1000])
            self.server.finished.wait(20)
        else:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.asked, server.finished = [], threading.Event()
        server.handle_error = lambda *_: None  # a client that hangs up is part of the tests
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield server
        server.finished.set()
        server.shutdown()


def source(server, *kinds):
    """A data set whose mirrors are the server's folders of these names."""
    address = f"http://127.0.0.1:{server.server_port}"
    return Originals(tuple(f"{address}/{kind}/" for kind in kinds), CHECKSUMS, "ask a friend")


@pytest.mark.parametrize("kind", ["good", "unmeasured"])
def test_a_good_file_arrives_whole_and_alone(server, tmp_path, kind):
    path = download(source(server, kind), IMAGES, tmp_path / "new" / "cache")
    assert path.read_bytes() == FILES[IMAGES]
    assert list(path.parent.iterdir()) == [path]


FAULTS = {
    "truncated": "1,000 of .* bytes, whose SHA-256 is not the original's",
    "wrong": "SHA-256 is not the original's",
    "forbidden": "HTTP Error 403: Forbidden",
    "garbled": "hello",
    "slow": "timed out",
    "stalled": "timed out",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_bad_answer_is_told_and_leaves_nothing_behind(server, tmp_path, kind):
    with pytest.raises(DataError, match=f"/{kind}/ answered: .*{FAULTS[kind]}"):
        download(source(server, kind), IMAGES, tmp_path, timeout=0.5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", FAULTS)
def test_after_a_bad_answer_the_next_mirror_is_asked(server, tmp_path, kind):
    path = download(source(server, kind, "good"), IMAGES, tmp_path, timeout=0.5)
    assert path.read_bytes() == FILES[IMAGES]
    assert server.asked == [kind, "good"]


def test_an_answer_without_end_is_cut_off(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_LARGEST_DOWNLOAD", 5000)
    with pytest.raises(DataError, match=r"[56],\d{3} of [34]\d,\d{3} bytes"):
        download(source(server, "good"), IMAGES, tmp_path)


def test_when_no_mirror_answers_the_error_says_which_file_goes_where(server, tmp_path):
    mirrors = source(server, "forbidden", "wrong")
    dead = "http://127.0.0.1:1/"  # port 1: connection refused
    mirrors = mirrors._replace(mirrors=(*mirrors.mirrors, dead))
    with pytest.raises(DataError) as caught:
        download(mirrors, IMAGES, tmp_path / "here")
    message = str(caught.value)
    for part in (IMAGES, "403", "SHA-256", "refused", str(tmp_path / "here"), "--data-dir"):
        assert part in message
    assert "ask a friend" in message and all(mirror in message for mirror in mirrors.mirrors)
    assert not (tmp_path / "here").exists()


def test_load_fills_the_cache_once_and_then_needs_no_mirror(server, tmp_path, monkeypatch):
    monkeypatch.setitem(datasets.ORIGINALS, "mnist-full", source(server, "good"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        images, labels = load("mnist-full")
        assert numpy.array_equal(images[..., 0], PICTURES) and labels[:3].tolist() == [0, 1, 2]
    assert server.asked == ["good"] * 2  # images and labels, each once
    cache = tmp_path / "tinygan" / "mnist-full"
    assert set(cache.iterdir()) == {cache / IMAGES, cache / LABELS}


def test_two_sets_with_equal_file_names_do_not_mix_in_one_folder(server, tmp_path, monkeypatch):
    monkeypatch.setitem(datasets.ORIGINALS, "mnist-full", source(server, "good"))
    monkeypatch.setitem(datasets.ORIGINALS, "fashion", source(server, "forbidden"))
    load("mnist-full", tmp_path)
    with pytest.raises(DataError, match="403"):
        load("fashion", tmp_path)


def test_a_folder_that_cannot_be_written_is_an_error(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot write .*; make room or give another folder"):
        download(source(server, "good"), IMAGES, tmp_path / "file")


def test_a_full_disk_leaves_no_partial_file(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match="No space left"):
        download(source(server, "good"), IMAGES, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_many_threads_fill_one_cache_at_the_same_time(server, tmp_path):
    mirrors = source(server, "good")
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: download(mirrors, IMAGES, tmp_path), range(16)))
    assert set(paths) == set(tmp_path.iterdir()) == {tmp_path / IMAGES}
    assert paths[0].read_bytes() == FILES[IMAGES]


def test_two_processes_fill_one_cache_at_the_same_time(server, tmp_path):
    program = (
        "from tinygan import datasets\n"
        f"datasets.ORIGINALS['mnist-full'] = datasets.{source(server, 'good')}\n"
        f"print(len(datasets.load('mnist-full', {str(tmp_path)!r}).images))"
    )
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    running = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in running:
        out, errors = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "50\n"), errors
    assert {file.name for file in (tmp_path / "mnist-full").iterdir()} == {IMAGES, LABELS}
