"""Exercise 8: the minimax game, Goodfellow et al. 2014, equation 1.

    min over G, max over D of    E log D(x) + E log(1 - D(G(z)))

D answers with logits l, from which sigmoid(l) is the probability that an image is real. Both
losses are minimised, so D's has the opposite sign:

    discriminator_loss = -E log sigmoid(l(x)) - E log(1 - sigmoid(l(G(z))))
    generator_loss     =  E log(1 - sigmoid(l(G(z))))

E is the mean over the batch. Never take the log of a probability that can round to 0: by
-log sigmoid(l) = softplus(-l) and -log(1 - sigmoid(l)) = softplus(l) nothing overflows.

Logits are (N, 1), losses are Tensors of shape ().
"""

from tinygan.functions import softplus  # noqa: F401


def discriminator_loss(real_logits: (5, 1), fake_logits: (5, 1)):
    raise NotImplementedError("discriminator_loss is not started")


def generator_loss(fake_logits: (5, 1)):
    raise NotImplementedError("generator_loss is not started")
