"""What only time shows: flat memory over ten thousand steps, and programs that run side by side."""

import contextlib
import gzip
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy
import pytest

from tinygan.training import checkpoints

DEMO = Path(__file__).parents[1] / "demos" / "mnist_gan.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cpu_only("reads the memory of the process"),
]

# Runs the demo, and after every hundredth step notes what the process holds.
OBSERVED = """
import json, os, runpy, sys, threading
from tinygan import training

held, log = [], training.Run.log

def observed(run, **panels):
    log(run, **panels)
    if run.step % 100 == 0:
        with open("/proc/self/status") as file:
            status = dict(line.split(":", 1) for line in file)
        held.append({
            "step": run.step, "resident": int(status["VmRSS"].split()[0]),
            "files": len(os.listdir("/proc/self/fd")), "threads": int(status["Threads"]),
        })

training.Run.log = observed
path, *sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
with open(path, "w") as file:
    json.dump(held, file)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to read")
def test_ten_thousand_steps_hold_no_more_than_the_first_thousand(tmp_path):
    command = [sys.executable, "-c", OBSERVED, tmp_path / "held.json", DEMO, "--steps", "10000",
               "--batch-size", "4", "--measure", "0", "--out", tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    held = json.loads((tmp_path / "held.json").read_text())
    assert [row["step"] for row in held] == list(range(100, 10_001, 100))
    warm = [row for row in held if row["step"] > 1000]
    resident = [row["resident"] for row in warm]
    assert max(resident) <= 1.02 * resident[0], resident
    for name in ("files", "threads"):
        assert len({row[name] for row in warm}) == 1, [row[name] for row in warm]


def state_of(folder):
    """What a run left: the bytes of its log, samples and weights."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")
             if path.suffix != ".npz"}
    parts = checkpoints.read(folder).parts
    return files | {f"{part}/{name}": array.tobytes()
                    for part, state in parts.items() for name, array in state.items()}


def test_two_runs_at_once_leave_what_each_leaves_alone(tmp_path):
    def start(name, seed):
        command = [sys.executable, DEMO, "--steps", "120", "--batch-size", "16", "--seed", seed,
                   "--out", tmp_path / name]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    for name, seed in (("one alone", "1"), ("two alone", "2")):
        assert start(name, seed).wait() == 0
    both = [start("one", "1"), start("two", "2")]
    assert [process.wait() for process in both] == [0, 0]
    for name in ("one", "two"):
        together, alone = state_of(tmp_path / name), state_of(tmp_path / f"{name} alone")
        assert together.keys() == alone.keys()
        assert [key for key in alone if together[key] != alone[key]] == []
    one, two = (checkpoints.read(tmp_path / name).parts["G"] for name in ("one", "two"))
    assert (one["layers.0.weight"] != two["layers.0.weight"]).any()
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "one alone", "two alone"}


# ---------------------------------------------------------------- one cache, many processes


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes(), 1)


NOISE = numpy.random.default_rng(0).integers(0, 256, (3000, 28, 28), dtype=numpy.uint8)
FILES = {
    "train-images-idx3-ubyte.gz": idx(NOISE),
    "train-labels-idx1-ubyte.gz": idx(NOISE[:, 0, 0] % 10),
}


class SlowMirror(BaseHTTPRequestHandler):
    """Sends a file in pieces, so that downloads overlap, and some only half."""

    def do_GET(self):
        content = FILES[self.path.strip("/")]
        self.server.asked += 1
        if self.server.asked % 3 == 1:
            content = content[: len(content) // 2]
        self.send_response(200)
        self.end_headers()
        for start in range(0, len(content), 1 << 16):
            self.wfile.write(content[start : start + (1 << 16)])
            self.server.pause.wait(0.002)

    def log_message(self, *_):
        pass


READER = """
import hashlib, sys
from tinygan import datasets
from tinygan.files import UsageError

datasets.ORIGINALS["fashion"] = datasets.Originals(({address!r},), {checksums!r}, "")
for attempt in range(20):
    try:
        images, labels = datasets.load("fashion")
    except UsageError as error:
        assert "SHA-256" in str(error), error
    else:
        print(hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest())
"""


@pytest.mark.parametrize("killed", [False, True])
def test_processes_that_fill_one_cache_at_once_all_read_the_same(killed, tmp_path):
    """Some of them are killed in the middle; the mirror sends every third answer only half."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), SlowMirror)
    server.asked, server.pause = 0, threading.Event()
    server.handle_error = lambda *_: None  # a client that is killed hangs up
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    checksums = {name.partition("-idx")[0]: hashlib.sha256(content).hexdigest()
                 for name, content in FILES.items()}
    program = READER.format(address=f"http://127.0.0.1:{server.server_port}/", checksums=checksums)
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "no_proxy": "*"}

    def start():
        return subprocess.Popen([sys.executable, "-c", program], env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    try:
        victims = [start() for _ in range(4 * killed)]
        for number, victim in enumerate(victims):
            with contextlib.suppress(subprocess.TimeoutExpired):
                victim.wait(0.3 + 0.1 * number)
            victim.kill()
            victim.communicate()
        processes = [start() for _ in range(4)]
        printed = [process.communicate() for process in processes]
    finally:
        server.shutdown()
        server.server_close()
    expected = hashlib.sha256(NOISE.tobytes() + (NOISE[:, 0, 0] % 10).tobytes()).hexdigest()
    for out, errors in printed:
        assert out and set(out.split()) == {expected}, errors
    cache = tmp_path / "tinygan" / "fashion"
    assert {name: (cache / name).read_bytes() for name in FILES} == FILES
    left = {path.name for path in cache.iterdir()} - FILES.keys()
    assert killed or not left
