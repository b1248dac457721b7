"""Exercise 9: one step of training, D first and then G.

    (1) D minimises  game.discriminator(D(real), D(G(latent)))  while G stands still.
    (2) G minimises  game.generator(D(G(latent)))  against the D of after step (1).

For each: forget the old gradients (zero_grad: backward() adds to those that are there), compute
the loss, backward(), step(). In step (1) the images of G are data like any other: .detach()
keeps the gradient from running on into G. In step (2) it must run through D into G, but D does
not move, because only G's optimizer takes a step.
"""

from tinygan.losses import NonSaturating

game = NonSaturating()


def update(G, D, optimizer_g, optimizer_d, real, latent):
    """real is a batch of real samples (N, features), latent one of noise (N, numbers)."""
    raise NotImplementedError("not started")
