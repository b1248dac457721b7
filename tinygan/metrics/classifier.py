"""A small classifier of digits: samples are measured by the features that it sees in them.

It is also the plainest network of this library: layers, a loss and a loop, with no adversary.
To train it again, in a minute:  python -m tinygan.metrics.classifier
"""

import argparse
import functools
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

from .. import backend, datasets, training
from ..backend import xp
from ..datasets import DataError, Dataset, from_bytes
from ..datasets.batches import require_floats
from ..files import replacing
from ..functions import Operand, ShapeError, class_labels, log_softmax
from ..layers import Conv2d, Dense, Flatten, LeakyReLU, Module, Sequential
from ..optimizers import Adam
from ..tensor import Tensor

WEIGHTS = Path(__file__).parent / "digit_classifier.npz"


class Classifier(Module):
    """Images (N, H, W, C) to logits (N, M), by way of features (N, F).

    A subclass sets body and head, which lead from images to features, and from there to logits.
    """

    body: Module
    head: Module

    def features(self, images: Tensor) -> Tensor:
        """What the last hidden layer sees: (N, H, W, C) -> (N, F)."""
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class DigitClassifier(Classifier):
    """Images (N, 28, 28, 1) to the logits of ten digits (N, 10); a LeNet (LeCun et al. 1998).

    Strides in place of its subsampling, LeakyReLU in place of tanh: no feature is ever dead.
    """

    def __init__(self):
        self.body = Sequential(
            Conv2d(1, 16, kernel=5, stride=2, padding=2, scale=math.sqrt(2 / 25)), LeakyReLU(),
            Conv2d(16, 32, kernel=5, stride=2, padding=2, scale=math.sqrt(2 / 400)), LeakyReLU(),
            Flatten(), Dense(7 * 7 * 32, 84), LeakyReLU(),
        )
        self.head = Dense(84, 10)

    def see(self, images: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Features, float64 (N, 84), and digits, int64 (N,), of images in main memory.

        Raises DataError unless they are floats in [-1, 1], as require_digits says.
        """
        require_digits(images)
        features = training.apply(self.features, images)
        return features.astype(numpy.float64), training.apply(self.head, features).argmax(axis=1)


def require_digits(images: numpy.ndarray) -> None:
    """Raise DataError unless images are floats in [-1, 1].

    Every digit is mostly black, -1: where no pixel is below 0, the images are of another range.
    """
    require_floats(images)
    low, high = images.min(), images.max()
    if not (-1.001 <= low < 0 and high <= 1.001):  # so that NaN is refused, too
        raise DataError(f"images of digits lie in [-1, 1], black is -1, and these in [{low:.4g}, "
                        f"{high:.4g}]: use 2 * images - 1 for [0, 1], from_bytes for bytes")


def cross_entropy(logits: Tensor, labels: Operand) -> Tensor:
    """-mean ln softmax(logits)[n, labels[n]]: (N, M), integers (N,) -> ().

    It is ln M for a network that knows nothing, 0 for one that is right and certain.
    Raises ShapeError where there is not one label for each row, and what class_labels raises.
    """
    if logits.ndim != 2:
        raise ShapeError(f"cross_entropy: logits are (N, M), not of shape {logits.shape}")
    labels = class_labels(labels, logits.shape[1], "cross_entropy")
    if len(labels) != len(logits):
        raise ShapeError(f"cross_entropy: {len(labels)} labels for {len(logits)} rows of logits")
    return -log_softmax(logits)[xp.arange(len(labels)), labels].mean()


def fit(
    classifier: Classifier, loss: Callable[[Tensor, Any], Tensor], data: Dataset,
    *, epochs: int, seed: int = 0, max_shift: int = 0,
) -> None:
    """Train a classifier: minimise loss(logits, labels) over data, images and their labels.

    With Adam, whose rate falls to 0; each batch is shifted by up to max_shift pixels each way.
    """
    from tqdm import tqdm

    size = min(64, len(data.images))
    adam = Adam(classifier.parameters(), 4e-3, betas=(0.9, 0.999))
    steps = epochs * (len(data.images) // size)
    batches = datasets.Batches(data.images, data.labels, batch_size=size, seed=seed)
    for step in tqdm(range(steps), desc="classifier", leave=False, disable=None):
        images, labels = next(batches)
        shift = tuple(backend.generator.integers(-max_shift, max_shift + 1, size=2).tolist())
        adam.lr = 4e-3 * (1 - step / steps)
        logits = classifier(Tensor(xp.roll(from_bytes(images), shift, axis=(1, 2))))
        objective = loss(logits, Tensor(labels))
        adam.zero_grad()
        objective.backward()
        adam.step()
    classifier.eval()


def train_classifier(
    data: Dataset, seed: int = 0, epochs: int = 15, *, max_shift: int = 2
) -> DigitClassifier:
    """A DigitClassifier that learned from digits (N, 28, 28, 1) and their labels.

    This seeds the library's random generator.
    """
    backend.seed(seed)
    classifier = DigitClassifier()
    fit(classifier, cross_entropy, data, epochs=epochs, seed=seed, max_shift=max_shift)
    return classifier


def accuracy(classifier: DigitClassifier, data: Dataset) -> float:
    """The fraction of the images in which the classifier sees the digit of their label."""
    _, digits = classifier.see(from_bytes(data.images))
    return float((digits == data.labels).mean())


@functools.cache
def shipped_classifier() -> DigitClassifier:
    """The classifier of digits that ships with the package."""
    return read_weights(DigitClassifier, WEIGHTS)


def read_weights(kind: type[Classifier], path: Path) -> Any:
    """The classifier of that kind whose weights are in a file."""
    before = backend.generator.bit_generator.state
    classifier = kind()
    backend.generator.bit_generator.state = before  # measuring must not change a training
    with numpy.load(path, allow_pickle=False) as file:
        classifier.load_state(dict(file))
    return classifier.eval()


def train_again(
    module: str, weights: Path, train: Callable[[int], Classifier], judge: Callable[[Any], str]
) -> None:
    """The command of a module: train a classifier that ships with the package again.

    train makes one with a seed, judge says in a sentence how well it reads held-out images.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m tinygan.metrics.{module}", allow_abbrev=False,
        description="Train the classifier that ships with the package again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=weights, metavar="PATH", help="its weights")
    parser.add_argument("--seed", type=training.from_zero(2**31, int), default=0, metavar="N",
                        help="the same seed gives the same weights")
    options = parser.parse_args()
    classifier = train(options.seed)
    with replacing(options.out) as path, open(path, "wb") as file:
        numpy.savez_compressed(file, **classifier.state())
    print(f"{judge(classifier)}; weights in {options.out}")


def main() -> None:
    """Train the classifier of digits again."""

    def judge(classifier: DigitClassifier) -> str:
        right = accuracy(classifier, datasets.mnist("held-out"))
        return f"{right:.1%} of the 1,000 held-out digits are read right"

    train_again("classifier", WEIGHTS, lambda seed: train_classifier(datasets.mnist(), seed), judge)


# python -m warns that the package has imported this file already; two copies do no harm.
warnings.filterwarnings("ignore", message="'tinygan.metrics.classifier' found in sys.modules")

if __name__ == "__main__":
    training.run_main(main)
