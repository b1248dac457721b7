"""Conditional GAN: handwritten digits to order. Both networks are told the label.

G gets the label beside the noise, D judges whether an image is a real example of its label.
Mirza and Osindero, "Conditional Generative Adversarial Nets", 2014, with the networks of
dcgan.py. `--digit 7 --count 16` has the run in --out draw sixteen sevens.
"""

import argparse

import numpy
from dcgan import make_discriminator, make_generator
from mnist_gan import R1_EVERY

from tinygan import Tensor, datasets, losses, no_grad, plots, training
from tinygan.backend import generator, random_normal, to_device
from tinygan.checkpoints import with_labels
from tinygan.functions import sigmoid
from tinygan.layers import Module, RandomTranslation
from tinygan.optimizers import Adam, ExponentialMovingAverage

BETAS = (0.0, 0.9)  # of Adam, as in dcgan.py
CLASSES = 10


class Discriminator(Module):
    """Images (N, 28, 28, channels) and one-hot labels (N, CLASSES) to logits (N, 1).

    It has an answer for each class, and the label picks the one that counts:
    l(x, y) = w_y . f(x) + b_y with the features f of the convolutions. This is the projection of
    Miyato and Koyama 2018 (eq. 3); the paper of 2014 has the label among the inputs.
    """

    def __init__(self, channels: int, width: int, reach: int):
        self.translation = RandomTranslation(reach)
        self.answers = make_discriminator(28, channels, width, self.translation, outputs=CLASSES)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return (self.answers(images) * labels).sum(axis=1, keepdims=True)


def options() -> argparse.Namespace:
    parser = training.parser(
        __doc__, out="runs/cgan", steps=8_000, batch_size=32, latent=16, lr=4e-3
    )
    add, whole = parser.add_argument, training.positive(int)
    add("--d-lr", type=training.positive(float), default=2e-3, metavar="LR",
        help="learning rate of D, half of that of G: D would win otherwise")
    add("--width", type=whole, default=32, metavar="N",
        help="channels after D's first convolution; the others follow")
    add("--r1", type=training.from_zero(), default=0.3, metavar="GAMMA",
        help="weight of the penalty on D's gradient at real images; 0 is without")
    add("--translate", type=training.from_zero(100, int), default=1, metavar="N",
        help="for 60 %% of the run D sees images moved by up to so many pixels")
    add("--digit", type=int, choices=range(CLASSES), metavar="K",
        help="do not train: draw this digit with the run in --out, 0 to 9")
    add("--count", type=whole, default=16, metavar="N", help="how many to draw with --digit")
    asked = parser.parse_args()
    return training.parse(parser) if asked.digit is None else asked  # to draw begins no run


def draw(settings: argparse.Namespace) -> None:
    """Write count pictures of the digit as digit-K.png into the folder of the run."""
    labels = numpy.full(settings.count, settings.digit)
    trained = training.load_generator(settings.out)
    path = settings.out / f"digit-{settings.digit}.png"
    plots.save_grid(trained.samples(settings.count, settings.seed, labels), path)
    print(f"{settings.count} times the digit {settings.digit}, after step {trained.step}: {path}")


def main() -> None:
    settings = options()
    if settings.digit is not None:
        return draw(settings)
    data = datasets.load(settings.data, settings.data_dir)
    if data.labels is None:
        raise training.UsageError(
            f"{settings.data} has no labels to learn from: use mnist, mnist-full or fashion"
        )
    _, height, width, channels = data.images.shape
    if (height, width) != (28, 28):
        raise training.UsageError(f"images of {height} x {width} pixels: this demo needs 28 x 28")
    G = make_generator(settings.latent + CLASSES, 28, channels, settings.width)
    D = Discriminator(channels, settings.width, settings.translate)
    game = losses.NonSaturating()
    adam_g = Adam(G.parameters(), settings.lr, betas=BETAS)
    adam_d = Adam(D.parameters(), settings.d_lr, betas=BETAS)
    average = ExponentialMovingAverage(G, decay=0.999)
    run = training.Run(
        settings, len(data.images), game, sample=average.average, classes=CLASSES,
        parts={"G": G, "D": D, "Adam of G": adam_g, "Adam of D": adam_d, "average of G": average},
    )
    real_batches = datasets.batches(data, settings.batch_size, settings.seed, first=run.step)
    one_hot = to_device(numpy.eye(CLASSES, dtype=numpy.float32))  # row k: 1 at place k, else 0

    def order() -> tuple[Tensor, Tensor]:
        """What G makes of random labels, and the labels."""
        labels = to_device(generator.integers(CLASSES, size=settings.batch_size))
        latents = random_normal(settings.batch_size, settings.latent)
        return G(Tensor(with_labels(latents, labels, CLASSES))), Tensor(one_hot[labels])

    def r1_penalty(real: Tensor, labels: Tensor) -> Tensor:
        """On D's gradient by the images; their labels stay what they are."""
        return losses.r1_penalty(lambda images: D(images, labels), real)

    for step in run:
        adam_g.lr = settings.lr * run.share_left
        adam_d.lr = settings.d_lr * run.share_left
        if run.share_left <= 0.4:
            D.translation.reach = 0  # G has still to learn where in the image a digit is

        # (1) Update D: minimise -log D(x | y) - log(1 - D(G(z | y) | y)). D judges pairs: a
        # good image beside the wrong label is no real pair, so that G must do as it is told.
        images, labels = next(real_batches)
        with no_grad():
            fake, ordered = order()
        real, asked = Tensor(images), Tensor(one_hot[labels])
        real_logits, fake_logits = D(real, asked), D(fake, ordered)
        d_loss = objective = game.discriminator(real_logits, fake_logits)
        if settings.r1 and step % R1_EVERY == 0:
            objective = d_loss + (settings.r1 * R1_EVERY) * r1_penalty(real, asked)
        adam_d.zero_grad()
        objective.backward()
        adam_d.step()

        # (2) Update G: minimise -log D(G(z | y) | y).
        with D.frozen():
            g_loss = game.generator(D(*order()))
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
