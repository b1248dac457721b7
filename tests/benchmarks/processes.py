"""The time of one GAN step on several processes, and a model of what to expect from many.

    pip install -e '.[mpi]'
    python tests/benchmarks/processes.py              # W1, W2 and W3 of training_step.py
    python tests/benchmarks/processes.py W3 --draw processes.png

Measured, each in programs of their own with one thread a process: a step on one process with the
whole batch of 64, a half and a quarter; on 2 and 4 processes that share the 64; and one process
with the threads that it takes by itself. The model, for P processes on C cores and a batch of B:

    T = max(1, P / C) (U + E B / P) + A,    A = 2 L log2 P + 2 (P - 1) / P bytes / W

U is what a step costs whatever the batch (the optimizers, the tape), E what an example costs: a
line through the three batches. L is the latency of a message, W the bytes a second, from the
smallest all-reduce and from that of the gradients on 2 processes. A is the cost of an all-reduce
by halves (Thakur, Rabenseifner and Gropp 2005, section 4.5). Past the cores of this machine
nothing is measured: there the model takes one core a process, and this machine's L and W or those
of a network.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy
from training_step import BATCH, WORKLOADS, Contest

from tinygan.backend import world
from tinygan.training import processes

REPEATS, CORES = 3, len(os.sched_getaffinity(0))
ETHERNET = (50e-6, 1.25e9)  # assumed, not measured: latency in seconds, bytes a second (10 Gbit)


class Model(NamedTuple):
    """Times in seconds: see the top of this file."""

    fixed: float  # U
    example: float  # E
    message: float  # bytes
    latency: float  # L
    width: float  # W

    def exchange(self, count: int) -> float:
        sent = 2 * (count - 1) / count * self.message / self.width
        return 2 * self.latency * math.log2(count) + sent

    def step(self, count: int, batch: float, cores: float = math.inf) -> float:
        work = self.fixed + self.example * batch / count
        return max(1, count / cores) * work + self.exchange(count)

    def pays_from(self, count: int) -> float:
        """The batch from which on so many processes, a core each, are faster than one."""
        return self.exchange(count) / (self.example * (1 - 1 / count))


def measure_here(name: str, batch: int, steps: int) -> None:
    """Under mpiexec: print, from the first process, the seconds of a step and of its messages."""
    processes.start()
    contest, part = Contest(WORKLOADS[name]), batch // processes.size
    rows = slice(processes.rank * part, (processes.rank + 1) * part)
    contest.batch = tuple(array[rows] for array in contest.batch)
    step, spent, sent = contest.ours(), [0.0], [0]

    def timed(arrays: list[Any]) -> None:
        start = time.perf_counter()
        processes._average(arrays)
        spent[0] += time.perf_counter() - start
        sent[0] += sum(array.nbytes for array in arrays)

    times, smallest = [], []
    with processes.together():
        world.average = timed
        for _ in range(steps):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        for _ in range(200):
            start = time.perf_counter()
            processes._average([numpy.zeros(1, dtype=numpy.float32)])
            smallest.append(time.perf_counter() - start)
    if processes.rank == 0:
        print(json.dumps({
            "step": statistics.median(times), "messages": spent[0] / steps,
            "bytes": sent[0] / steps, "smallest": statistics.median(smallest)}))


def measure(name: str, count: int, batch: int, steps: int, threads: int = 1) -> dict[str, float]:
    command = [sys.executable, __file__, name, "--here", str(batch), "--steps", str(steps)]
    if count > 1:
        mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.defpath}")
        command[:0] = [mpiexec or sys.exit("error: pip install -e '.[mpi]'"), "-n", str(count)]
    limits = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    printed = subprocess.run(command, env=os.environ | limits, check=True, capture_output=True)
    return json.loads(printed.stdout)


def fit(found: Mapping[tuple[int, int], dict[str, float]]) -> Model:
    """The parameters, of the medians by (processes, batch)."""
    batches = [batch for count, batch in found if count == 1]
    example, fixed = numpy.polyfit(batches, [found[1, batch]["step"] for batch in batches], 1)
    two = found[2, BATCH]
    latency = two["smallest"] / 2
    width = two["bytes"] / max(two["messages"] - 2 * two["smallest"], 1e-9)
    return Model(max(fixed, 0.0), example, two["bytes"], 2 * latency, width)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="W", default=["W1", "W2", "W3"])
    parser.add_argument("--steps", type=int, default=40, help="of each program")
    parser.add_argument("--draw", type=Path, metavar="PATH", help="draw the model as a PNG")
    parser.add_argument("--here", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        return measure_here(options.workloads[0], options.here, options.steps)
    models = {}
    for name in options.workloads:
        plans = [(1, BATCH), (1, BATCH // 2), (1, BATCH // 4), (2, BATCH), (4, BATCH)]
        runs = [{plan: measure(name, *plan, options.steps) for plan in plans}
                | {(0, BATCH): measure(name, 1, BATCH, options.steps, CORES)}
                for _ in range(REPEATS)]
        found = {plan: {key: statistics.median(run[plan][key] for run in runs)
                        for key in runs[0][plan]} for plan in runs[0]}
        model = models[name] = fit(found)
        print(f"\n{name}, batch {BATCH}, {CORES} cores, medians of {REPEATS}; a step in ms")
        print(f"  one process: {found[1, BATCH]['step'] * 1e3:.1f} with one thread, "
              f"{found[0, BATCH]['step'] * 1e3:.1f} with {CORES}")
        for count in (2, 4):
            step, messages = (found[count, BATCH][key] * 1e3 for key in ("step", "messages"))
            print(f"  {count} processes: {step:.1f}, {messages:.1f} of it in messages; "
                  f"the model says {model.step(count, BATCH, CORES) * 1e3:.1f}")
        print(f"  U {model.fixed * 1e3:.2f} ms, E {model.example * 1e3:.3f} ms, "
              f"{model.message / 1e6:.1f} MB, L {model.latency * 1e6:.0f} us, "
              f"W {model.width / 1e9:.2f} GB/s")
        for title, many in {"this machine's messages": model, "10 Gbit Ethernet (assumed)":
                            model._replace(latency=ETHERNET[0], width=ETHERNET[1])}.items():
            print(f"  the model with {title}, a core each: pays from a batch of " + ", ".join(
                f"{max(many.pays_from(count), count):,.0f} on {count:,}"
                for count in (2, 8, 64, 1024)))
    if options.draw:
        draw(models, options.draw)


def draw(models: Mapping[str, Model], path: Path) -> None:
    """How many times faster than one process, for fixed batches, over Ethernet."""
    from matplotlib.figure import Figure

    counts = [2**i for i in range(11)]
    figure = Figure(figsize=(4 * len(models), 3.4), layout="constrained")
    for axes, (name, model) in zip(figure.subplots(1, len(models), squeeze=False)[0],
                                   models.items(), strict=True):
        many = model._replace(latency=ETHERNET[0], width=ETHERNET[1])
        for batch in (BATCH, 16 * BATCH, 256 * BATCH):
            here = [count for count in counts if count <= batch]
            axes.loglog(here, [many.step(1, batch) / many.step(count, batch) for count in here],
                        label=f"batch {batch:,}")
        axes.loglog(counts, counts, "k:", linewidth=0.8)
        axes.set(title=f"{name}: the model", xlabel="processes", ylabel="times as fast")
        axes.legend()
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
