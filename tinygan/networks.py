"""Networks that several demos share: for points, DCGAN's pair, and from images to images.

DCGAN is of Radford, Metz and Chintala 2016, whose guidelines (section 3) are named where they are
applied. Letters: N batch, S the images' side, C their channels, W width.
"""

import math
from collections.abc import Callable
from typing import Any

from .backend import xp
from .files import UsageError
from .functions import (
    concatenate,
    exp,
    leaky_relu,
    one_hot,
    reshape,
    softmax,
    sqrt,
    transpose,
    where,
)
from .layers import (
    AddConstant,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Embedding,
    Flatten,
    LeakyReLU,
    MinibatchDeviation,
    Module,
    OneHotCode,
    RandomTranslation,
    ReLU,
    Reshape,
    Sequential,
    Tanh,
)
from .losses import normal_divergence
from .normalization import BatchNorm, InstanceNorm
from .tensor import Tensor


def dense_network(
    inputs: int, outputs: int, width: int, *, batch_norm: bool = False
) -> Sequential:
    """(N, inputs) to (N, outputs) through two hidden layers of width W, with BatchNorm or not."""
    hidden = [[Dense(size, width), *[BatchNorm(width)] * batch_norm, LeakyReLU(0.2)]
              for size in (inputs, width)]
    return Sequential(*hidden[0], *hidden[1], Dense(width, outputs))


def packed(points: Tensor, pack: int) -> Tensor:
    """Points (N, 2) side by side in packs (N / pack, 2 pack); all of one pack are of one kind."""
    return reshape(points, (-1, 2 * pack))


def bend(first: Dense, packs: Tensor) -> None:
    """Start D's first layer with kinks where the data are: unit i is 0 at the i-th of packs.

    With biases of 0 all kinks pass through the middle, and D is slow to tell modes apart.
    """
    first.bias.data[:] = -(packs.data * first.weight.data.T).sum(axis=1)


def doubled(inputs: int, outputs: int) -> list[Module]:
    """Layers from (N, H, W, inputs) to (N, 2H, 2W, outputs)."""
    layer = ConvTranspose2d(inputs, outputs, kernel=4, stride=2, padding=1, bias=False)
    return [layer, BatchNorm(outputs), ReLU()]


def dcgan_generator(
    latent: int, size: int, channels: int, width: int, codes: int = 0
) -> Sequential:
    """Latents z (N, latent) to images (N, S, S, C) in [-1, 1]; size is a multiple of 4.

    Fractionally strided convolutions in place of upsampling; BatchNorm everywhere but at the
    output, where it would take a bias away again; ReLU everywhere but at the output, which is
    tanh. codes, which are not the paper's, turn so many numbers of z into one of so many codes.
    Raises UsageError where there are more codes than numbers, or the size is no multiple of 4.
    """
    if size % 4:
        raise UsageError(f"--size {size} is not a multiple of 4: use {size // 4 * 4 + 4}")
    if codes > latent:
        raise UsageError(f"{codes} codes are more than the {latent} numbers of a latent: use fewer")
    quarter = size // 4
    return Sequential(
        *([OneHotCode(codes)] if codes else []),                                # (N, latent)
        Dense(latent, quarter * quarter * 2 * width, bias=False, scale=0.02),
        Reshape(quarter, quarter, 2 * width), BatchNorm(2 * width), ReLU(),     # (N, S/4, S/4, 2W)
        *doubled(2 * width, width),                                             # (N, S/2, S/2, W)
        ConvTranspose2d(width, channels, kernel=4, stride=2, padding=1), Tanh(),  # (N, S, S, C)
    )


def dcgan_discriminator(
    size: int, channels: int, width: int, max_shift: int = 0, batchnorm: bool = False,
    outputs: int = 1, convolutions: int = 3, deviation: bool = False,
    wrap: Callable[[Module], Module] = lambda layer: layer, attention: Module | None = None,
) -> Sequential:
    """Images (N, S, S, C) to logits (N, outputs).

    Strided convolutions in place of pooling; LeakyReLU 0.2; no hidden dense layer; BatchNorm, if
    asked for, everywhere but at the input. Without it the weights start larger (He et al. 2015).
    The third convolution lets D's features see whole strokes; for one kind of image two are
    enough. An empty background, -1, becomes 0, as the padding is: otherwise every image would have
    a frame. Then .translation moves images by up to max_shift pixels. What is not of the paper:
    with deviation the last layer sees how much the batch varies (MinibatchDeviation); wrap is
    given each layer with weights, such as SpectralNorm; attention stands at S/4 x S/4.
    """

    def convolution(inputs: int, filters: int, kernel: int, norm: bool) -> list[Module]:
        scale = 0.02 if batchnorm else math.sqrt(2 / (kernel * kernel * inputs))
        layer = Conv2d(
            inputs, filters, kernel=kernel, stride=2, padding=1, bias=not norm, scale=scale
        )
        return [wrap(layer), *([BatchNorm(filters)] if norm else []), LeakyReLU(0.2)]

    side, last = size // 4, 2 * width
    layers = [
        AddConstant(1.0), RandomTranslation(max_shift),         # (N, S, S, C) in [0, 2]
        *convolution(channels, width, 4, norm=False),           # (N, S/2, S/2, W)
        *convolution(width, 2 * width, 4, norm=batchnorm),      # (N, S/4, S/4, 2W)
        *([attention] if attention else []),
    ]
    if convolutions == 3:
        layers += convolution(2 * width, 4 * width, 3, norm=batchnorm)
        side, last = (side + 1) // 2, 4 * width                 # (N, S/8, S/8, 4W), rounded up
    if deviation:
        layers, last = [*layers, MinibatchDeviation()], last + 1
    answers = wrap(Dense(side * side * last, outputs))
    network = Sequential(*layers, Flatten(), answers)           # (N, outputs)
    network.translation = network.layers[1]
    return network


class ClassDiscriminator(Module):
    """Images (N, S, S, C) and labels (N,) to logits (N, 1).

    It has an answer for each class, and the label picks the one that counts:
    l(x, y) = w_y . f(x) + b_y with the features f of the convolutions (Miyato and Koyama 2018,
    "cGANs with Projection Discriminator", eq. 3). options: those of dcgan_discriminator.
    """

    def __init__(self, classes: int, size: int, channels: int, width: int, **options: Any):
        self.classes = classes
        self.answers = dcgan_discriminator(size, channels, width, outputs=classes, **options)

    def forward(self, images: Tensor, labels: Any) -> Tensor:
        return (self.answers(images) * one_hot(labels, self.classes)).sum(axis=1, keepdims=True)


# ---------------------------------------------------------------- from images to images


class ResidualBlock(Module):
    """y = x + f(x), f two 3 x 3 convolutions with InstanceNorm: (N, H, W, channels), as it was.

    He et al. 2016, as in Johnson et al. 2016: where f gives 0, the image passes as it is.
    Without normalized, f keeps the contrast of what it sees (Lim et al. 2017, section 3.1).
    """

    def __init__(self, channels: int, *, normalized: bool = True):
        def convolution() -> list[Module]:
            scale = 0.02 if normalized else 1 / math.sqrt(9 * channels)
            layer = Conv2d(
                channels, channels, kernel=3, padding=1, bias=not normalized, scale=scale)
            return [layer, *([InstanceNorm()] if normalized else [])]

        self.layers = Sequential(*convolution(), ReLU(), *convolution())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def image_encoder(channels: int, width: int, blocks: int = 3) -> Sequential:
    """Images (N, S, S, C) to features (N, S/4, S/4, 2W); S is a multiple of 4.

    The first half of CycleGAN's generator (Zhu et al. 2017, section 4): two strided convolutions,
    then residual blocks.
    """
    return Sequential(
        Conv2d(channels, width, kernel=4, stride=2, padding=1, bias=False),
        InstanceNorm(), ReLU(),                                                # (N, S/2, S/2, W)
        Conv2d(width, 2 * width, kernel=4, stride=2, padding=1, bias=False),
        InstanceNorm(), ReLU(),                                                # (N, S/4, S/4, 2W)
        *(ResidualBlock(2 * width) for _ in range(blocks)),
    )


def image_decoder(channels: int, width: int) -> Sequential:
    """Features (N, S/4, S/4, 2W) to images (N, S, S, C) in [-1, 1]: the second half."""
    return Sequential(
        ConvTranspose2d(2 * width, width, kernel=4, stride=2, padding=1, bias=False),
        InstanceNorm(), ReLU(),                                                # (N, S/2, S/2, W)
        ConvTranspose2d(width, width, kernel=4, stride=2, padding=1, bias=False),
        InstanceNorm(), ReLU(),                                                # (N, S, S, W)
        Conv2d(width, channels, kernel=3, padding=1), Tanh(),                  # (N, S, S, C)
    )


def patch_discriminator(channels: int, width: int, halvings: int = 2) -> Sequential:
    """Images (N, S, S, C) to a map of logits, one for each patch: (N, S/2^h, S/2^h, 1).

    Isola et al. 2017, section 3.2.2: D judges texture, the patches' layout is the loss's affair.
    Each of the h halvings is a 4 x 4 convolution of stride 2, with InstanceNorm after all but the
    first; then 3 x 3. A logit sees 8 pixels across after one halving, 18 after two, 38 after three.
    """
    layers: list[Module] = []
    for halving in range(halvings):
        filters = width << halving
        layers += [
            Conv2d(channels, filters, kernel=4, stride=2, padding=1, bias=halving == 0),
            *([InstanceNorm()] if halving else []), LeakyReLU(0.2),
        ]
        channels = filters
    return Sequential(*layers, Conv2d(channels, 1, kernel=3, padding=1))


# ---------------------------------------------------------------- from words


class CaptionReader(Module):
    """Captions (N, T), integers below words, to what they say (N, features).

    Each three words in a row pass a dense layer, and each feature is the largest over all places:
    a convolution along the caption, then max pooling (Kim 2014, section 2). "a red hat and black
    hair" is read as "a red hat", "red hat and" and so on: a colour stays with its thing.
    """

    def __init__(self, words: int, features: int = 96, *, embedded: int = 32):
        self.embedding = Embedding(words, embedded)
        self.dense = Dense(3 * embedded, features, scale=math.sqrt(2 / (3 * embedded)))

    def trigrams(self, captions: Any) -> Tensor:
        """What each three consecutive words say: (N, T - 2, features)."""
        n, length = captions.shape
        x = reshape(self.embedding(captions.reshape(-1)), (n, length, -1))      # (N, T, E)
        x = concatenate([x[:, :-2], x[:, 1:-1], x[:, 2:]], axis=2)              # (N, T - 2, 3E)
        return leaky_relu(self.dense(x))

    def words(self, captions: Any) -> Tensor:
        """What each word says between its neighbours: (N, T, features)."""
        return self.trigrams(xp.pad(captions, ((0, 0), (1, 1))))

    def forward(self, captions: Any) -> Tensor:
        return self.trigrams(captions).max(axis=1)                                # (N, features)


class ConditioningAugmentation(Module):
    """A random point near what a caption says: captions (N, T) to c (N, features), and D ().

    c = mean + deviation noise,  noise (N, features) ~ N(0, 1),  mean and log deviation^2 being
    dense layers of what is read. Zhang et al. 2017, section 3.2: few captions leave no gaps then,
    and each has many pictures. D is losses.normal_divergence: if G didn't minimise it beside its
    loss (eq. 2), it would make the deviation 0.
    """

    def __init__(self, words: int, features: int):
        self.reader = CaptionReader(words)
        read = self.reader.dense.weight.shape[1]
        self.mean, self.log_variance = Dense(read, features), Dense(read, features, scale=0.02)

    def forward(self, captions: Any, noise: Tensor) -> tuple[Tensor, Tensor]:
        read = self.reader(captions)
        mean, log_variance = self.mean(read), self.log_variance(read)
        return mean + exp(log_variance * 0.5) * noise, normal_divergence(mean, log_variance)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> Conv2d:
    scale = math.sqrt(2 / (kernel * kernel * inputs))  # He et al. 2015
    return Conv2d(inputs, outputs, kernel=kernel, stride=stride, padding=1, scale=scale)


class CaptionDiscriminator(Module):
    """Images (N, S, S, 3) and captions (N, T) to logits (N, 1); S is 4 times 2^halvings.

    l(x, t) = (w + g(t)) . f(x) + b: is x real, and is it what t says? A projection (Miyato and
    Koyama 2018, eq. 3), of the features f on what a CaptionReader makes of t.
    """

    def __init__(self, words: int, width: int, halvings: int):
        layers, last = [_convolution(3, width, 3, 1), LeakyReLU()], width << halvings
        for halving in range(halvings):
            layers += [_convolution(width << halving, width << halving + 1, 4, 2), LeakyReLU()]
        self.features = Sequential(*layers, Flatten(), Dense(4 * 4 * last, 4 * width), LeakyReLU())
        self.alone = Dense(4 * width, 1)
        self.reader = CaptionReader(words)
        read = self.reader.dense.weight.shape[1]
        self.caption = Dense(read, 4 * width, scale=1 / math.sqrt(4 * width * read))

    def judge(self, features: Tensor, captions: Any) -> Tensor:
        """The logits of what features() saw in images, (N, 4W): with several captions, once."""
        g = self.caption(self.reader(captions))
        return self.alone(features) + (features * g).sum(axis=1, keepdims=True)

    def forward(self, images: Tensor, captions: Any) -> Tensor:
        return self.judge(self.features(images), captions)


class Matcher(Module):
    """How well images fit captions, word by word: M images (S, S, 3), N captions to scores (M, N).

    The words' half of DAMSM, the deep attentional multimodal similarity model of Xu et al. 2018,
    section 3.2. For each word e_t, the J regions v_j of an image are weighed by how much they are
    about this word rather than another, and what is seen there is held against the word:

        a_tj = softmax over j of 5 softmax over t of 2 e_t . v_j,    c_t = sum over j of a_tj v_j
        score = 20 mean over t of cos(c_t, e_t)                      (eq. 7 to 10)

    Departures: |e_t| = 1, factors that suit it, and the mean, so that every word must fit; eq. 10
    is a soft maximum, in which the best count most.
    """

    def __init__(self, words: int, features: int = 32):
        self.reader = CaptionReader(words, 2 * features)
        self.project = Dense(2 * features, features, bias=False)
        self.regions = Sequential(                                              # (M, S, S, 3)
            _convolution(3, features, 3, 1), LeakyReLU(),
            _convolution(features, 2 * features, 4, 2), LeakyReLU(),            # (M, S/2, S/2, 2F)
            _convolution(2 * features, features, 3, 1))                         # (M, S/2, S/2, F)

    def forward(self, images: Tensor, captions: Any) -> Tensor:
        m, (n, length), present = len(images), captions.shape, captions > 0
        words = _unit(self.project(reshape(self.reader.words(captions), (n * length, -1))))
        regions = reshape(self.regions(images), (m, -1, words.shape[1]))        # (M, J, F)
        similar = 2.0 * words @ transpose(regions, (0, 2, 1))                   # (M, N T, J)
        similar = reshape(similar, (m, n, length, -1))
        about = softmax(where(present[..., None], similar, -1e9), axis=2)       # (M, N, T, J)
        weights = softmax(5.0 * reshape(about, (m, n * length, -1)))            # (M, N T, J)
        cosines = reshape((_unit(weights @ regions) * words).sum(axis=2), (m, n, length))
        lengths = present.sum(axis=1).astype(xp.float32)
        return 20.0 * where(present, cosines, 0.0).sum(axis=2) / Tensor(lengths)


def _unit(x: Tensor) -> Tensor:
    """Vectors along the last axis, with length 1."""
    return x / sqrt((x * x).sum(axis=-1, keepdims=True) + 1e-8)
