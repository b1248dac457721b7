"""How good the demos are, over seeds: the tables of the README.

    python tests/benchmarks/quality.py --seeds 5
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy

from tinygan import training

DEMOS = Path(__file__).parents[2] / "demos"

PLANE = [  # options of demos/ring.py; below each remedy's the same without it
    "--data ring --pack 2",
    "--data ring",
    "--data ring --unrolled 5 --lr 1e-3 --d-lr 1e-3 --steps 800",
    "--data ring --lr 1e-3 --d-lr 1e-3 --steps 800",
    "--data grid --pack 3 --bend --lr 4e-3 --d-lr 2e-3 --steps 5000",
    "--data grid --lr 4e-3 --d-lr 2e-3 --steps 5000",
]


def plane(seeds: int) -> Iterator[str]:
    """Rows of Markdown: each line of PLANE over the seeds, 2,500 samples at the end of each run.

    The time is that of one processor, with one view in place of forty: where others work on the
    machine too, the clock on the wall says little.
    """
    sys.path.insert(0, str(DEMOS))
    import ring

    training.PICTURES = 1
    yield "| `demos/ring.py` | modes: mean | of each seed | samples on a mode | time |"
    yield "|---|---|---|---|---|"
    for words in PLANE:
        found, seconds = [], []
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as out:
                sys.argv = ["ring.py", *words.split(), "--seed", str(seed), "--out", out]
                start = time.process_time()
                with contextlib.redirect_stdout(io.StringIO()):
                    found.append(ring.train(ring.options()))
                seconds.append(time.process_time() - start)
        captured = [modes.captured for modes in found]
        quality = [modes.high_quality for modes in found]
        yield (f"| `{words}` | {numpy.mean(captured):.1f} | {', '.join(map(str, captured))} | "
               f"{numpy.mean(quality):.0%} | {numpy.mean(seconds):.0f} s |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=training.positive(int), default=5, help="default: 5")
    settings = parser.parse_args()
    for row in plane(settings.seeds):
        print(row, flush=True)


if __name__ == "__main__":
    main()
