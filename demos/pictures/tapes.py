"""Draw tape_d_step.png and tape_g_step.png beside this file: what backward() walks in each step."""

from pathlib import Path

import tinygan
from tinygan import Tensor, losses, plots
from tinygan.backend import random_normal
from tinygan.layers import Dense, LeakyReLU, Sequential

folder = Path(__file__).parent
tinygan.seed(0)
G = Sequential(Dense(8, 16), LeakyReLU(0.2), Dense(16, 2))
D = Sequential(Dense(2, 16), LeakyReLU(0.2), Dense(16, 1))
weights = {tensor: f"{player} {name.removeprefix('layers.')}"
           for player, network in [("G", G), ("D", D)]
           for name, tensor in network.named_parameters().items()}
game, z, real = losses.NonSaturating(), Tensor(random_normal(64, 8)), Tensor(random_normal(64, 2))

fake = G(z).detach()
d_loss = game.discriminator(D(real), D(fake))
names = {real: "real x", fake: "G(z).detach()\nG is cut off here", d_loss: "D loss"}
plots.save_graph(d_loss, folder / "tape_d_step.png", weights | names,
                 "(1) D's step: no gradient reaches G")

fake = G(z)
with D.frozen():
    g_loss = game.generator(D(fake))
names = {z: "noise z", fake: "G(z)", g_loss: "G loss"}
frozen = {tensor: f"{weights[tensor]}, frozen" for tensor in D.parameters()}
plots.save_graph(g_loss, folder / "tape_g_step.png", weights | names | frozen,
                 "(2) G's step: through the frozen D into G")
