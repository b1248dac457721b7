"""A small classifier of attributes: characters are measured by the features that it sees in them.

To train it again, in half a minute:  python -m tinygan.metrics.attributes
"""

import functools
import itertools
import math
import warnings
from pathlib import Path

import numpy

from .. import backend, datasets, training
from ..datasets import ATTRIBUTES, Characters, Dataset, from_bytes
from ..datasets.batches import require_floats
from ..functions import concatenate
from ..layers import Conv2d, Dense, Flatten, LeakyReLU, Sequential
from ..tensor import Tensor
from .classifier import Classifier, cross_entropy, fit, read_weights, train_again
from .distances import Reference

WEIGHTS = Path(__file__).parent / "attribute_classifier.npz"
VALUES = [len(values) for values in ATTRIBUTES.values()]
ENDS = [0, *itertools.accumulate(VALUES)]  # attribute i has the logits ENDS[i] to ENDS[i + 1]
MOUTH = slice(8, 13), slice(4, 12)  # rows and columns of an image


class AttributeClassifier(Classifier):
    """Images (N, 16, 16, 3) to logits (N, 31): those of all attributes' values, one after another.

    Eight heads on 64 features of four convolutions, but for the mood, the last attribute: a smile
    is two pixels, which a network of its own sees, and no larger one finds among all others.
    """

    def __init__(self):
        def convolution(inputs: int, filters: int, stride: int) -> list:
            scale = math.sqrt(2 / (9 * inputs))
            layer = Conv2d(inputs, filters, kernel=3, stride=stride, padding=1, scale=scale)
            return [layer, LeakyReLU()]

        self.body = Sequential(
            *convolution(3, 24, 1), *convolution(24, 24, 2),                    # (N, 8, 8, 24)
            *convolution(24, 48, 1), *convolution(48, 48, 2),                   # (N, 4, 4, 48)
            Flatten(), Dense(4 * 4 * 48, 64), LeakyReLU(),                          # (N, 64)
        )
        self.head = Dense(64, ENDS[-2])
        self.mouth = Sequential(Flatten(), Dense(5 * 8 * 3, 64), LeakyReLU(), Dense(64, VALUES[-1]))

    def forward(self, images: Tensor) -> Tensor:
        mood = self.mouth(images[(slice(None), *MOUTH)])
        return concatenate([super().forward(images), mood], axis=1)

    def see(self, images: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Features, float64 (N, 64), and attributes, int64 (N, 8), of floats in [-1, 1].

        Raises DataError for bytes.
        """
        require_floats(images)
        features, logits = (training.apply(f, images) for f in (self.features, self))
        heads = numpy.split(logits, ENDS[1:-1], axis=1)
        return features.astype(numpy.float64), numpy.stack([h.argmax(axis=1) for h in heads], 1)


def attribute_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum of the cross-entropies of all attributes: (N, 31), (N, 8) -> ()."""
    spans = enumerate(itertools.pairwise(ENDS))
    return sum(cross_entropy(logits[:, start:end], labels[:, i]) for i, (start, end) in spans)


def train_attribute_classifier(
    data: Characters, seed: int = 0, epochs: int = 16
) -> AttributeClassifier:
    """One that learned from characters. This seeds the library's random generator."""
    backend.seed(seed)
    classifier = AttributeClassifier()
    fit(classifier, attribute_loss, Dataset(data.images, data.attributes), epochs=epochs, seed=seed)
    return classifier


def attribute_accuracies(classifier: AttributeClassifier, data: Characters) -> dict[str, float]:
    """The share of each attribute that is read right, of hair where it shows."""
    _, seen = classifier.see(from_bytes(data.images))
    right = dict(zip(ATTRIBUTES, (seen == data.attributes).T, strict=True))
    right["hair"] = right["hair"][data.shows_hair()]
    return {name: float(hits.mean()) for name, hits in right.items()}


@functools.cache
def shipped_attribute_classifier() -> AttributeClassifier:
    """The classifier of attributes that ships with the package."""
    return read_weights(AttributeClassifier, WEIGHTS)


@functools.cache
def real_characters() -> Reference:
    """The training characters as the classifier sees them."""
    images = from_bytes(datasets.characters().images)
    return Reference(shipped_attribute_classifier().see(images)[0])


def character_figures(images: numpy.ndarray) -> dict[str, float]:
    """Frechet and kernel distance, precision and recall of images (N, 16, 16, 3) in [-1, 1]."""
    return real_characters().figures(shipped_attribute_classifier().see(images)[0])


def main() -> None:
    """Train the classifier of attributes again."""

    def judge(classifier: AttributeClassifier) -> str:
        right = attribute_accuracies(classifier, datasets.characters("held-out"))
        shares = ", ".join(f"{name} {share:.1%}" for name, share in right.items())
        return f"Of 1,000 held-out characters are read right: {shares}"

    def train(seed: int) -> AttributeClassifier:
        return train_attribute_classifier(datasets.characters(), seed)

    train_again("attributes", WEIGHTS, train, judge)


# python -m warns that the package has imported this file already; two copies do no harm.
warnings.filterwarnings("ignore", message="'tinygan.metrics.attributes' found in sys.modules")

if __name__ == "__main__":
    training.run_main(main)
