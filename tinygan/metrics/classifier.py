"""A small classifier of digits: samples are measured by the features that it sees in them.

It is also the plainest network of this library: layers, a loss and a loop, with no adversary.
To train it again, in a minute:  python -m tinygan.metrics.classifier
"""

import argparse
import functools
import math
import warnings
from pathlib import Path

import numpy

from .. import backend, datasets, training
from ..backend import to_device, xp
from ..datasets import DataError, Dataset, from_bytes
from ..datasets.batches import require_floats
from ..files import replacing
from ..functions import Operand, ShapeError, class_labels, log_softmax
from ..layers import Conv2d, Dense, Flatten, LeakyReLU, Module, Sequential
from ..optimizers import Adam
from ..tensor import Tensor, no_grad

WEIGHTS = Path(__file__).parent / "digit_classifier.npz"
BLOCK = 500  # images that it sees at a time


class DigitClassifier(Module):
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

    def features(self, images: Tensor) -> Tensor:
        """The last hidden layer: (N, 28, 28, 1) -> (N, 84)."""
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def see(self, images: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Features, float64 (N, 84), and digits, int64 (N,), of images in main memory.

        Raises DataError unless they are floats in [-1, 1], as require_digits says.
        """
        require_digits(images)
        features, logits = [], []
        with no_grad():
            for start in range(0, len(images), BLOCK):
                seen = self.features(Tensor(to_device(images[start : start + BLOCK])))
                features.append(seen.numpy())
                logits.append(self.head(seen).numpy())
        digits = numpy.concatenate(logits).argmax(axis=1)
        return numpy.concatenate(features).astype(numpy.float64), digits


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


def train_classifier(
    data: Dataset, seed: int = 0, epochs: int = 15, *, max_shift: int = 2
) -> DigitClassifier:
    """A DigitClassifier that learned from digits (N, 28, 28, 1) and their labels.

    With Adam, whose rate falls to 0; each batch is shifted by up to max_shift pixels each way.
    This seeds the library's random generator.
    """
    from tqdm import tqdm

    backend.seed(seed)
    classifier, size = DigitClassifier(), min(64, len(data.images))
    adam = Adam(classifier.parameters(), 4e-3, betas=(0.9, 0.999))
    steps = epochs * (len(data.images) // size)
    batches = datasets.Batches(data.images, data.labels, batch_size=size, seed=seed)
    for step in tqdm(range(steps), desc="classifier", leave=False, disable=None):
        images, labels = next(batches)
        shift = tuple(backend.generator.integers(-max_shift, max_shift + 1, size=2).tolist())
        adam.lr = 4e-3 * (1 - step / steps)
        logits = classifier(Tensor(xp.roll(from_bytes(images), shift, axis=(1, 2))))
        loss = cross_entropy(logits, Tensor(labels))
        adam.zero_grad()
        loss.backward()
        adam.step()
    return classifier.eval()


def accuracy(classifier: DigitClassifier, data: Dataset) -> float:
    """The fraction of the images in which the classifier sees the digit of their label."""
    _, digits = classifier.see(from_bytes(data.images))
    return float((digits == data.labels).mean())


@functools.cache
def shipped_classifier() -> DigitClassifier:
    """The classifier that ships with the package."""
    before = backend.generator.bit_generator.state
    classifier = DigitClassifier()
    backend.generator.bit_generator.state = before  # measuring must not change a training
    with numpy.load(WEIGHTS, allow_pickle=False) as file:
        classifier.load_state(dict(file))
    return classifier.eval()


def main() -> None:
    """Train the classifier that ships with the package again."""
    parser = argparse.ArgumentParser(
        prog="python -m tinygan.metrics.classifier", description=main.__doc__, allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=WEIGHTS, metavar="PATH", help="its weights")
    parser.add_argument("--seed", type=training.from_zero(2**31, int), default=0, metavar="N",
                        help="the same seed gives the same weights")
    options = parser.parse_args()
    classifier = train_classifier(datasets.mnist(), options.seed)
    with replacing(options.out) as path, open(path, "wb") as file:
        numpy.savez_compressed(file, **classifier.state())
    right = accuracy(classifier, datasets.mnist("held-out"))
    print(f"{right:.1%} of the 1,000 held-out digits are read right; weights in {options.out}")


# python -m warns that the package has imported this file already; two copies do no harm.
warnings.filterwarnings("ignore", message="'tinygan.metrics.classifier' found in sys.modules")

if __name__ == "__main__":
    training.run_main(main)
