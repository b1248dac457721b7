"""WGAN: the critic's loss estimates the distance between real and generated images.

The critic l gives every image a number. As long as it is 1-Lipschitz, E l(x) - E l(G(z)) is at
most the Wasserstein distance of the two distributions, and near it when the critic is good.
Unlike the losses of other games it should therefore fall as the pictures get better. It is
logged and drawn in curves.png, and pictures/estimate.py holds it against the Frechet distance:
it falls with it at first, above all with --d-steps 5. Late in the run it rises again although
the pictures go on getting better: the critic, at smaller rates, sees finer differences.

Two ways to keep the critic 1-Lipschitz, up to a factor:
  --penalty gradient  Gulrajani et al., "Improved Training of Wasserstein GANs", 2017
  --penalty clip      Arjovsky, Chintala and Bottou, "Wasserstein GAN", 2017, with its settings
The settings of the paper of the gradient penalty, with its 100 latents, are
  --lr 1e-4 --d-lr 1e-4 --d-steps 5 --penalty-every 1 --codes 0 --latent 100 --translate 0
"""

import argparse

from dcgan import make_discriminator, make_generator

from tinygan import Tensor, datasets, losses, no_grad, training
from tinygan.backend import random_normal
from tinygan.layers import RandomTranslation
from tinygan.optimizers import Adam, ExponentialMovingAverage, RMSProp

CLIP = 0.01  # Arjovsky et al. 2017, algorithm 1
DEFAULTS = {  # learning rates of G and of the critic, and its updates in a step
    "gradient": {"lr": 4e-3, "d_lr": 2e-3, "d_steps": 1},
    "clip": {"lr": 5e-5, "d_lr": 5e-5, "d_steps": 5},
}


def options() -> argparse.Namespace:
    parser = training.parser(
        __doc__, out="runs/wgan", steps=9_000, batch_size=32, latent=26, lr=None
    )
    add, whole = parser.add_argument, training.positive(int)
    add("--penalty", default="gradient", choices=DEFAULTS, help="what keeps the critic 1-Lipschitz")
    add("--d-lr", type=training.positive(float), metavar="LR",
        help="learning rate of the critic; default: 2e-3 (--lr: 4e-3), with clip 5e-5 for both")
    add("--d-steps", type=whole, metavar="K",
        help="updates of the critic in a step (n_critic); default: 1, with clip 5")
    add("--penalty-weight", type=training.positive(float), default=10.0, metavar="LAMBDA",
        help="weight of the gradient penalty; 1 is faster at first, not in the end")
    add("--penalty-every", type=whole, default=4, metavar="K",
        help="steps from one gradient penalty, with so many times its weight, to the next")
    add("--codes", type=training.from_zero(1000, int), default=10, metavar="N",
        help="so many numbers of z become one code: the largest 1, the others 0")
    add("--translate", type=training.from_zero(100, int), default=1, metavar="N",
        help="for 60 %% of the run the critic sees images moved by up to so many pixels")
    add("--width", type=whole, default=32, metavar="N",
        help="channels after the critic's first convolution; the others follow")
    settings = training.parse(parser)
    for name, value in DEFAULTS[settings.penalty].items():
        if getattr(settings, name) is None:
            setattr(settings, name, value)
    return settings


def main() -> None:
    settings = options()
    data = datasets.load(settings.data, settings.data_dir)
    _, height, width, channels = data.images.shape
    if (height, width) != (28, 28):
        raise training.UsageError(f"images of {height} x {width} pixels: this demo needs 28 x 28")
    gradient = settings.penalty == "gradient"
    G = make_generator(settings.latent, 28, channels, settings.width, settings.codes)
    translation = RandomTranslation(settings.translate)
    # No BatchNorm: the penalty is on the slope at each image by itself, and an answer that
    # depends on the whole batch has none.
    critic = make_discriminator(28, channels, settings.width, translation)
    game = losses.Wasserstein()
    if gradient:
        optimizer_g = Adam(G.parameters(), settings.lr, betas=(0.0, 0.9))
        optimizer_c = Adam(critic.parameters(), settings.d_lr, betas=(0.0, 0.9))
    else:
        optimizer_g = RMSProp(G.parameters(), settings.lr)
        optimizer_c = RMSProp(critic.parameters(), settings.d_lr)
    average = ExponentialMovingAverage(G, decay=0.999)
    run = training.Run(
        settings, len(data.images), game, sample=average.average,
        parts={"G": G, "critic": critic, "optimizer of G": optimizer_g,
               "optimizer of the critic": optimizer_c, "average of G": average},
    )
    real_batches = datasets.batches(
        data, settings.batch_size, settings.seed, first=run.step * settings.d_steps
    )

    def noise() -> Tensor:
        return Tensor(random_normal(settings.batch_size, settings.latent))

    for step in run:
        if gradient:  # rates that fall to zero, as in its paper's runs on CIFAR-10
            optimizer_g.lr = settings.lr * run.share_left
            optimizer_c.lr = settings.d_lr * run.share_left
        if run.share_left <= 0.4:
            translation.reach = 0  # G has still to learn where in the image a digit is

        # (1) Update the critic: minimise E l(G(z)) - E l(x), minus the estimate.
        for _ in range(settings.d_steps):
            real = Tensor(next(real_batches)[0])
            with no_grad():
                fake = G(noise())
            c_loss = game.discriminator(critic(real), critic(fake))
            objective = c_loss
            if gradient and step % settings.penalty_every == 0:
                penalty = losses.gradient_penalty(critic, real, fake)
                objective = c_loss + settings.penalty_weight * settings.penalty_every * penalty
            optimizer_c.zero_grad()
            objective.backward()
            optimizer_c.step()
            if not gradient:
                losses.clip_weights(critic, CLIP)

        # (2) Update G: minimise -E l(G(z)).
        with critic.frozen():
            g_loss = game.generator(critic(G(noise())))
        optimizer_g.zero_grad()
        g_loss.backward()
        optimizer_g.step()
        average.update()

        with no_grad():
            run.log({"critic loss": c_loss, "G loss": g_loss, "Wasserstein estimate": -c_loss})


if __name__ == "__main__":
    training.run_main(main)
