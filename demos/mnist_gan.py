"""The GAN of 2014 on handwritten digits: two dense networks that learn from one another.

Goodfellow et al., "Generative Adversarial Nets", 2014 (arxiv.org/abs/1406.2661).
"""

from tinygan import Tensor, datasets, losses, no_grad, training
from tinygan.backend import random_normal
from tinygan.functions import sigmoid
from tinygan.layers import Dense, Flatten, LeakyReLU, Reshape, Sequential, Tanh
from tinygan.optimizers import Adam, ExponentialMovingAverage


def make_generator(latent: int) -> Sequential:
    """Latents z (N, latent) to images (N, 28, 28, 1) in [-1, 1]."""
    return Sequential(
        Dense(latent, 256), LeakyReLU(0.2),
        Dense(256, 512), LeakyReLU(0.2),
        Dense(512, 784), Tanh(),
        Reshape(28, 28, 1),
    )


def make_discriminator() -> Sequential:
    """Images (N, 28, 28, 1) to logits (N, 1): how sure D is that they are real."""
    return Sequential(
        Flatten(),
        Dense(784, 512), LeakyReLU(0.2),
        Dense(512, 256), LeakyReLU(0.2),
        Dense(256, 1),
    )


def main() -> None:
    parser = training.parser(__doc__, out="runs/mnist_gan", steps=2000, lr=1e-3)
    parser.add_argument("--loss", default="non-saturating", choices=losses.GAMES,
                        help="the game; minimax is equation 1 of the paper")
    parser.add_argument("--d-steps", type=training.positive(int), default=1, metavar="K",
                        help="steps of D in a step of training (the paper's k)")
    parser.add_argument("--g-steps", type=training.positive(int), default=1, metavar="M",
                        help="steps of G in a step of training")
    options = training.parse(parser)

    data = datasets.load(options.data, options.data_dir)
    G, D = make_generator(options.latent), make_discriminator()
    game = losses.GAMES[options.loss]()
    adam_g = Adam(G.parameters(), options.lr)
    adam_d = Adam(D.parameters(), options.lr)
    smooth = ExponentialMovingAverage(G, decay=0.999)

    run = training.Run(
        options, images=len(data.images), sample=smooth.average,
        parts={"G": G, "D": D, "Adam of G": adam_g, "Adam of D": adam_d, "average of G": smooth.average},
    )
    real_batches = datasets.batches(
        data, options.batch_size, seed=options.seed, first=run.step * options.d_steps
    )

    def latents() -> Tensor:
        return Tensor(random_normal(options.batch_size, options.latent))

    for _ in run:
        # (1) D's step: minimise -log D(x) - log(1 - D(G(z))).
        for _ in range(options.d_steps):
            real, _ = next(real_batches)
            with no_grad():
                fake = G(latents())
            real_logits, fake_logits = D(Tensor(real)), D(fake)
            d_loss = game.discriminator(real_logits, fake_logits)
            if run.step % 4 == 0:
                d_loss = d_loss + losses.r1_penalty(D, Tensor(real)) * 4.0
            adam_d.zero_grad()
            d_loss.backward()
            adam_d.step()

        # (2) G's step.
        for _ in range(options.g_steps):
            with D.frozen():
                g_loss = game.generator(D(G(latents())))
            adam_g.zero_grad()
            g_loss.backward()
            adam_g.step()
        smooth.update()

        with no_grad():
            run.log({
                "D loss": d_loss, "G loss": g_loss,
                "D(x)": sigmoid(real_logits).mean(), "D(G(z))": sigmoid(fake_logits).mean(),
            })


if __name__ == "__main__":
    training.run_main(main)
