"""How good the demos are, over seeds: the tables of RESULTS.md, as rows of Markdown.

    python tests/benchmarks/quality.py              # images: hours, so that it can be interrupted
    python tests/benchmarks/quality.py --plane      # points in the plane

Times are those of the processor, so that what others do meanwhile does not count; a run of images
has one thread. One that is complete in --out is not made again.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
from tqdm import tqdm

from tinygan import evaluate, metrics, training
from tinygan.training import checkpoints

DEMOS = Path(__file__).parents[2] / "demos"
COUNT = 5000  # samples that are measured
PLACES = evaluate.PLACES | {"minutes": 1}  # the columns, with digits after the point
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

IMAGES = {  # the commands, at their defaults but for what is said
    "GAN": "mnist_gan.py",
    "GAN, minimax": "mnist_gan.py --loss minimax",
    "GAN, least squares": "mnist_gan.py --loss least-squares",
    "GAN, hinge": "mnist_gan.py --loss hinge",
    "GAN, Wasserstein and R1": "mnist_gan.py --loss wasserstein",
    "DCGAN": "dcgan.py",
    "WGAN, clipped": "wgan.py --penalty clip --lr 1e-3 --d-lr 1e-3 --steps 2000",
    "WGAN-GP": "wgan.py",
    "cGAN": "cgan.py",
}

PLANE = [  # options of demos/ring.py; below each remedy's the same without it
    "--data ring --pack 2",
    "--data ring",
    "--data ring --unrolled 5 --lr 1e-3 --d-lr 1e-3 --steps 800",
    "--data ring --lr 1e-3 --d-lr 1e-3 --steps 800",
    "--data grid --pack 3 --bend --lr 4e-3 --d-lr 2e-3 --steps 20000",
    "--data grid --bend --lr 4e-3 --d-lr 2e-3 --steps 20000",
]


def train(command: str, folder: Path) -> None:
    """One run in a process of its own; its seconds are written when it is complete."""
    if (folder / "seconds").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, *f"{DEMOS}/{command} --measure 0 --overwrite --out".split(), folder]
    with open(folder / "output.txt", "w") as output:
        seconds = processor_seconds(words, output, command)
    saved = checkpoints.read(folder)
    if saved.step < saved.options["steps"]:
        raise KeyboardInterrupt  # which the run had, too: it stopped, and is well
    (folder / "seconds").write_text(f"{seconds:.0f}")


def processor_seconds(words: list[str], output: Any, command: str) -> float:
    """What a command took of the processor. Raises UsageError where it fails."""
    run = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=ONE_THREAD)
    _, status, used = os.wait4(run.pid, 0)
    run.returncode = os.waitstatus_to_exitcode(status)
    if run.returncode:
        raise training.UsageError(f"{command} failed: {getattr(output, 'name', 'it')} says why")
    return used.ru_utime + used.ru_stime


def images(systems: list[str], seeds: int, jobs: int, out: Path) -> Iterator[str]:
    """Rows: the figures of the floors and of each system, over the seeds."""
    runs = {name: [out / name.replace(" ", "_") / str(seed) for seed in range(seeds)]
            for name in systems}
    pool = ThreadPoolExecutor(jobs)
    waiting = [
        pool.submit(train, f"{IMAGES[name]} --seed {seed}", folder)
        for name, folders in runs.items() for seed, folder in enumerate(folders)
    ]
    try:
        for run in tqdm(waiting, unit="run"):
            run.result()
    finally:
        pool.shutdown(cancel_futures=True)
    found: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        pictures = {name: training.load(runs[name][seed]).pictures() for name in systems}
        for name, samples, labels in metrics.subjects(pictures, COUNT, seed):
            figures = metrics.measure(samples, labels)
            if name == metrics.CEILING:
                figures["score"] = figures["as asked"]  # read by what learned from real digits
            elif labels is not None:
                figures["score"] = metrics.accuracy_score(samples, labels, seed)
            if name in runs:
                figures["minutes"] = float((runs[name][seed] / "seconds").read_text()) / 60
            found.setdefault(name, []).append([figures.get(title, math.nan) for title in PLACES])
    yield f"| | {' | '.join(PLACES)} |"
    yield "|" + "---|" * (1 + len(PLACES))
    for name, rows in found.items():
        title = f"{name}: `{IMAGES[name]}`" if name in IMAGES else name
        cells = map(over_seeds, zip(*rows, strict=True), PLACES.values())
        yield f"| {title} | {' | '.join(cells)} |"


def over_seeds(values: tuple[float, ...], places: int) -> str:
    """The mean and in brackets the range; nothing where there is no figure."""
    if math.isnan(values[0]):
        return ""
    mean, low, high = (f"{x:.{places}f}" for x in (numpy.mean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low}-{high})"


def plane(seeds: int) -> Iterator[str]:
    """Rows: each line of PLANE over the seeds, 2,500 samples at the end of each run.

    The time is with all forty views.
    """
    yield "| `demos/ring.py` | modes: mean | of each seed | samples on a mode | time |"
    yield "|---|---|---|---|---|"
    for words in PLANE:
        captured, quality, seconds = [], [], []
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as out:
                train_points = [sys.executable, f"{DEMOS}/ring.py", *words.split(), "--seed",
                                str(seed), "--overwrite", "--out", out]
                seconds.append(processor_seconds(train_points, subprocess.DEVNULL, "ring.py"))
                figures = json.loads((Path(out) / "figures.json").read_text())["samples of G"]
            captured.append(figures["captured"])
            quality.append(figures["on_one"])
        yield (f"| `{words}` | {numpy.mean(captured):.1f} | {', '.join(map(str, captured))} | "
               f"{numpy.mean(quality):.0%} | {numpy.mean(seconds):.0f} s |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, whole = parser.add_argument, training.positive(int)
    add("--plane", action="store_true", help="demos/ring.py instead of the demos with images")
    add("--systems", nargs="+", choices=IMAGES, default=[*IMAGES], metavar="NAME",
        help=f"some of the systems of images alone: {', '.join(IMAGES)}")
    add("--seeds", type=whole, help="seeds from 0 on (default: 3, or 5 with --plane)")
    add("--jobs", type=whole, default=os.cpu_count() or 1,
        help="runs at a time; default: one per core")
    add("--out", type=Path, default=Path("runs/quality"), help="folder of the runs of images")
    settings = parser.parse_args()
    if settings.plane:
        rows = plane(settings.seeds or 5)
    else:
        try:
            settings.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"argument --out: {settings.out}: {error.strerror}")
        rows = images(settings.systems, settings.seeds or 3, settings.jobs, settings.out)
    for row in rows:
        print(row, flush=True)


if __name__ == "__main__":
    training.run_main(main)
