"""DCGAN: generator and discriminator of convolutions, on digits or a folder of images.

Radford, Metz and Chintala, "Unsupervised Representation Learning with Deep Convolutional
Generative Adversarial Networks", 2016. The paper's guidelines (section 3) are named where
they are applied. Not the paper's: D has a penalty on its gradient in place of BatchNorm and sees
images moved a little, a part of z becomes one of ten codes, so that G need not fill the gaps
between the digits, and the pictures are those of a moving average of G. The paper's settings are
  --batchnorm --r1 0 --lr 2e-4 --d-lr 2e-4 --beta1 0.5 --beta2 0.999
  --batch-size 128 --codes 0 --latent 100 --translate 0
"""

import argparse
import math

from mnist_gan import R1_EVERY

from tinygan import Tensor, datasets, losses, no_grad, training
from tinygan.backend import random_normal
from tinygan.functions import sigmoid
from tinygan.layers import (
    BatchNorm,
    Codes,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Flatten,
    LeakyReLU,
    Module,
    RandomTranslation,
    ReLU,
    Reshape,
    Sequential,
    Shift,
    Tanh,
)
from tinygan.optimizers import Adam, ExponentialMovingAverage


def make_generator(
    latent: int, size: int, channels: int, width: int, codes: int = 0
) -> Sequential:
    """Latents z (N, latent) to images (N, size, size, channels) in [-1, 1].

    Fractionally strided convolutions in place of upsampling; BatchNorm everywhere but at the
    output; ReLU everywhere but at the output, which is tanh. A bias before BatchNorm would be
    taken away again. Codes, which are not the paper's, turn a part of z into one of several.
    """
    if codes > latent:
        raise training.UsageError(
            f"--codes {codes} is more than --latent {latent}: so many of its numbers become a code"
        )
    quarter = size // 4
    return Sequential(
        *([Codes(codes)] if codes else []),
        Dense(latent, quarter * quarter * 2 * width, bias=False, scale=0.02),
        Reshape(quarter, quarter, 2 * width), BatchNorm(2 * width), ReLU(),
        ConvTranspose2d(2 * width, width, kernel=4, stride=2, padding=1, bias=False),
        BatchNorm(width), ReLU(),
        ConvTranspose2d(width, channels, kernel=4, stride=2, padding=1), Tanh(),
    )


def make_discriminator(
    size: int, channels: int, width: int, translation: Module, batchnorm: bool = False,
    outputs: int = 1,
) -> Sequential:
    """Images (N, size, size, channels) to logits (N, outputs).

    Strided convolutions in place of pooling; LeakyReLU 0.2; no hidden dense layer; BatchNorm, if
    asked for, everywhere but at the input. Without it the weights start larger (He et al. 2015).
    The last convolution lets D's features see whole strokes. The shift makes an empty background
    0, as the padding is: else every image has a frame.
    """
    def convolution(inputs: int, filters: int, kernel: int, norm: bool) -> list[Module]:
        scale = 0.02 if batchnorm else math.sqrt(2 / (kernel * kernel * inputs))
        layer = Conv2d(
            inputs, filters, kernel=kernel, stride=2, padding=1, bias=not norm, scale=scale
        )
        return [layer, *([BatchNorm(filters)] if norm else []), LeakyReLU(0.2)]

    eighth = (size // 4 + 1) // 2
    return Sequential(
        Shift(1.0), translation,
        *convolution(channels, width, 4, norm=False),
        *convolution(width, 2 * width, 4, norm=batchnorm),
        *convolution(2 * width, 4 * width, 3, norm=batchnorm),
        Flatten(), Dense(eighth * eighth * 4 * width, outputs),
    )


def options() -> argparse.Namespace:
    parser = training.parser(
        __doc__, out="runs/dcgan", steps=8_000, batch_size=32, latent=26, lr=4e-3
    )
    parser.add_argument("--d-lr", type=training.positive(float), default=2e-3, metavar="LR",
                        help="learning rate of D, half of that of G: D would win otherwise")
    parser.add_argument("--beta1", type=training.from_zero(1), default=0.0, metavar="RATE",
                        help="share of the past in Adam's mean of the gradients")
    parser.add_argument("--beta2", type=training.from_zero(1), default=0.9, metavar="RATE",
                        help="share of the past in Adam's mean of their squares")
    parser.add_argument("--r1", type=training.from_zero(), default=1.0, metavar="GAMMA",
                        help="weight of the penalty on D's gradient at real images; 0 is without")
    parser.add_argument("--batchnorm", action="store_true", help="BatchNorm in D as well as in G")
    parser.add_argument("--codes", type=training.from_zero(1000, int), default=10, metavar="N",
                        help="so many numbers of z become one code: the largest 1, the others 0")
    parser.add_argument("--translate", type=training.from_zero(100, int), default=1, metavar="N",
                        help="for 60 %% of the run D sees images moved by up to so many pixels")
    parser.add_argument("--width", type=training.positive(int), default=32, metavar="N",
                        help="channels after D's first convolution; the others follow")
    parser.add_argument("--size", type=training.positive(int), default=28, metavar="PIXELS",
                        help="side of the images of --data folder:PATH, a multiple of 4")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=1,
                        help="of the images of a folder: 1 for grey, 3 for colours")
    return training.parse(parser)


def main() -> None:
    settings = options()
    data = datasets.load(settings.data, settings.data_dir, size=settings.size,
                         channels=settings.channels)
    _, height, size, channels = data.images.shape
    if height != size:
        raise training.UsageError(f"images of {height} x {size} pixels: this demo needs squares")
    if size % 4:
        raise training.UsageError(f"--size {size} is not a multiple of 4: use {size // 4 * 4 + 4}")
    G = make_generator(settings.latent, size, channels, settings.width, settings.codes)
    translation = RandomTranslation(settings.translate)
    D = make_discriminator(size, channels, settings.width, translation, settings.batchnorm)
    game = losses.NonSaturating()
    betas = (settings.beta1, settings.beta2)
    adam_g = Adam(G.parameters(), settings.lr, betas=betas)
    adam_d = Adam(D.parameters(), settings.d_lr, betas=betas)
    average = ExponentialMovingAverage(G, decay=0.999)
    run = training.Run(
        settings, len(data.images), game, sample=average.average,
        parts={"G": G, "D": D, "Adam of G": adam_g, "Adam of D": adam_d, "average of G": average},
    )
    real_batches = datasets.batches(data, settings.batch_size, settings.seed, first=run.step)

    def noise() -> Tensor:
        return Tensor(random_normal(settings.batch_size, settings.latent))

    for step in run:
        adam_g.lr = settings.lr * run.share_left
        adam_d.lr = settings.d_lr * run.share_left
        if run.share_left <= 0.4:
            translation.reach = 0  # G has still to learn where in the image things are

        # (1) Update D: minimise -log D(x) - log(1 - D(G(z))). Real and generated images go
        # through D in batches of their own: mixed, BatchNorm would tell D which is which.
        real = Tensor(next(real_batches)[0])
        with no_grad():
            fake = G(noise())
        real_logits, fake_logits = D(real), D(fake)
        d_loss = objective = game.discriminator(real_logits, fake_logits)
        if settings.r1 and step % R1_EVERY == 0:
            objective = d_loss + (settings.r1 * R1_EVERY) * losses.r1_penalty(D, real)
        adam_d.zero_grad()
        objective.backward()
        adam_d.step()

        # (2) Update G: minimise -log D(G(z)).
        with D.frozen():
            g_loss = game.generator(D(G(noise())))
        adam_g.zero_grad()
        g_loss.backward()
        adam_g.step()
        average.update()

        with no_grad():
            run.log({
                "D loss": d_loss, "G loss": g_loss,
                "D(x)": sigmoid(real_logits).mean(), "D(G(z))": sigmoid(fake_logits).mean(),
            })


if __name__ == "__main__":
    training.run_main(main)
