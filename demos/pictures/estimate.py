"""Draw wgan_estimate.png beside this file: the critic's estimate above the samples' distance.

    python demos/pictures/estimate.py --out runs/wgan      # and other options of demos/wgan.py

It is a run of the demo whose samples are measured whenever a picture is due, 40 times.
"""

import sys
from pathlib import Path

import numpy

from tinygan import metrics, plots, training
from tinygan.backend import to_device
from tinygan.tensor import Tensor, no_grad

folder = Path(__file__).parent
sys.path.insert(0, str(folder.parent))
import wgan  # noqa: E402


class MeasuredRun(training.Run):
    """A run that also measures: (step, mean estimate since the last picture, distance)."""

    measured: list[tuple[int, float, float]] = []

    def _save_samples(self) -> None:
        super()._save_samples()
        random = numpy.random.default_rng(0)
        latents = random.standard_normal((1000, self.options.latent), dtype=numpy.float32)
        with no_grad():
            images = self.sample(Tensor(to_device(latents))).numpy()
        estimates = [row["Wasserstein estimate"] for row in self.rows
                     if row["step"] > self.step - self.picture_every]
        distance = metrics.measure(images).frechet_distance
        self.measured.append((self.step, float(numpy.mean(estimates)), distance))


def ranks(values: numpy.ndarray) -> numpy.ndarray:
    return values.argsort().argsort()


def main() -> None:
    training.Run = MeasuredRun
    wgan.main()
    steps, estimates, distances = numpy.array(MeasuredRun.measured).T
    plots.save_curves(
        steps, {"Wasserstein estimate": {"critic": estimates},
                "Frechet distance of 1,000 samples": {"samples": distances}},
        folder / "wgan_estimate.png",
    )
    numpy.savetxt(sys.stdout, MeasuredRun.measured, "%.6g", header="step estimate distance")
    correlation = numpy.corrcoef(ranks(estimates), ranks(distances))[0, 1]
    print(f"Rank correlation of the two over {len(steps)} pictures: {correlation:.2f}")


if __name__ == "__main__":
    training.run_main(main)
