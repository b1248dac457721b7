"""The games that generator G and discriminator D play, and the penalties on D.

x are real images, G(z) generated ones. D answers with logits: l is any real number, and
sigmoid(l) = 1 / (1 + e^-l) is the probability that the image is real. Every loss takes logits
(N, 1), is averaged over the batch, and is to be minimised. Since
-log sigmoid(l) = softplus(-l) and -log(1 - sigmoid(l)) = softplus(l), no logarithm is ever taken
of a probability that rounds to zero.

Each game also says what its numbers mean: balance is D's loss while it cannot tell real from
generated, reading explains the log to whoever watches it, answer(logits) is what D says of each
image, and answers(real_logits, fake_logits) are the numbers about D to log.
"""

import copy
import math
from collections.abc import Callable, Iterable

from . import functions
from .backend import random_uniform, xp
from .functions import relu, sigmoid, softplus
from .layers import Module
from .tensor import Tensor, grad


class Game:
    """discriminator(real_logits, fake_logits) and generator(fake_logits) are the two losses.

    D's answers are its logits as they are, unless a game says otherwise.
    """

    def answer(self, logits: Tensor) -> Tensor:
        return logits

    def answers(self, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
        return {"D(x)": self.answer(real_logits).mean(), "D(G(z))": self.answer(fake_logits).mean()}


class Minimax(Game):
    """min over G, max over D of  E log D(x) + E log(1 - D(G(z))).  Goodfellow et al. 2014, eq. 1.

    D minimises -E log D(x) - E log(1 - D(G(z))). Against a perfect G the best it can do is to
    answer 1/2 everywhere, and its loss is 2 log 2 = 1.386. G minimises E log(1 - D(G(z))), whose
    gradient vanishes while D is sure of itself: the loss saturates.
    """

    balance = 2 * math.log(2)
    reading = (
        "D(x) and D(G(z)) are the probabilities of being real that D gives to real and to "
        "generated images. At 1 and 0 D sees through everything and G learns little; at 1/2 and "
        "1/2 it cannot tell them apart, and its loss is 2 log 2 = 1.386. In between, the losses "
        "are a tug of war: one that falls says nothing about the pictures."
    )

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator(self, fake_logits: Tensor) -> Tensor:
        return -softplus(fake_logits).mean()

    def answer(self, logits: Tensor) -> Tensor:
        return sigmoid(logits)


class NonSaturating(Minimax):
    """D as in Minimax; G minimises -E log D(G(z)).  Goodfellow et al. 2014, end of section 3.

    The same fixed point, but the gradient is strong where G is bad: sigmoid(l) - 1 in place of
    -sigmoid(l), near -1 in place of 0 when D rejects a sample.
    """

    def generator(self, fake_logits: Tensor) -> Tensor:
        return softplus(-fake_logits).mean()


class LeastSquares(Game):
    """D minimises E (l(x) - 1)^2 / 2 + E l(G(z))^2 / 2, G minimises E (l(G(z)) - 1)^2 / 2.

    Mao et al. 2017, eq. 9: labels 0 and 1, and no sigmoid.
    """

    balance = 0.25
    reading = (
        "D(x) and D(G(z)) are D's mean answers, without a sigmoid: it aims at 1 for real and at 0 "
        "for generated images. Where it cannot tell them apart it answers 1/2, and its loss is "
        "1/4; with a loss near 0 it sees through everything."
    )

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return ((real_logits - 1.0) ** 2).mean() * 0.5 + (fake_logits**2).mean() * 0.5

    def generator(self, fake_logits: Tensor) -> Tensor:
        return ((fake_logits - 1.0) ** 2).mean() * 0.5


class Hinge(Game):
    """D minimises E max(0, 1 - l(x)) + E max(0, 1 + l(G(z))), G minimises -E l(G(z)).

    Lim and Ye 2017; Miyato et al. 2018, eq. 16 and 17.
    """

    balance = 2.0
    reading = (
        "D(x) and D(G(z)) are D's mean answers, any real numbers. Its loss is 2 while it cannot "
        "tell them apart, 0 once it answers above 1 to all real and below -1 to all generated ones."
    )

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return relu(1.0 - real_logits).mean() + relu(1.0 + fake_logits).mean()

    def generator(self, fake_logits: Tensor) -> Tensor:
        return -fake_logits.mean()


class Wasserstein(Game):
    """The critic minimises E l(G(z)) - E l(x), G minimises -E l(G(z)).  Arjovsky et al. 2017.

    Minus the critic's loss estimates the Wasserstein distance, up to a factor, as long as the
    critic is kept Lipschitz: by gradient_penalty or by clip_weights.
    """

    balance = 0.0
    reading = (
        "The Wasserstein estimate, minus the critic's loss, is the distance between real and "
        "generated images up to a factor, while the critic is kept Lipschitz. It falls as the "
        "pictures get better, until the critic sees finer differences than before: late in a run "
        "it may rise again."
    )

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return fake_logits.mean() - real_logits.mean()

    def generator(self, fake_logits: Tensor) -> Tensor:
        return -fake_logits.mean()

    def answers(self, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
        return {"Wasserstein estimate": real_logits.mean() - fake_logits.mean()}


GAMES = {
    "minimax": Minimax,
    "non-saturating": NonSaturating,
    "least-squares": LeastSquares,
    "hinge": Hinge,
    "wasserstein": Wasserstein,
}


# R1 needs a second-order gradient, which costs as much as the rest of the step, so apply it every
# fourth step at four times the weight (Karras et al. 2020, appendix B).
R1_EVERY = 4


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """E (|grad l(u)| - 1)^2 at random points u between real and fake images; weigh it with 10.

    Gulrajani et al. 2017, eq. 3. The norm is over all pixels of an image; 1e-12 under the root
    keeps its derivative finite at zero. The critic must judge each image by itself: no BatchNorm.
    """
    t = random_uniform(real.shape[0], *[1] * (real.ndim - 1)).astype(real.dtype)  # (N, 1, ...)
    between = Tensor(t * real.data + (1 - t) * fake.data, requires_grad=True)
    norm = functions.sqrt(_squared_slopes(critic, between) + 1e-12)
    return ((norm - 1.0) ** 2).mean()


def r1_penalty(critic: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """E |grad l(x)|^2 / 2 at real images.  Mescheder et al. 2018, eq. 9; weigh it with gamma."""
    return _squared_slopes(critic, Tensor(real.data, requires_grad=True)).mean() * 0.5


def _squared_slopes(critic: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """|d l / d image|^2 of each image of the batch, (N,), itself differentiable."""
    (slopes,) = grad(critic(images).sum(), [images], create_graph=True)
    return (slopes * slopes).sum(axis=tuple(range(1, images.ndim)))


def orthogonal_penalty(weights: Iterable[Tensor]) -> Tensor:
    """Sum over the weights W of |W^T W o (1 - I)|^2: no two columns point the same way.

    Brock et al. 2019, eq. 3; weigh it with 1e-4. The product o is number by number, so that
    lengths stay free. A weight is seen as a matrix, its last axis the columns w_j.
    """
    total = Tensor(0.0)
    for weight in weights:
        matrix = functions.reshape(weight, (-1, weight.shape[-1]))
        lengths = (matrix * matrix).sum(axis=0)
        # |W^T W|^2 - sum of |w_j|^4; W W^T is as large as W^T W, and one of the two is small.
        wide = matrix.shape[0] < matrix.shape[1]
        product = matrix @ matrix.T if wide else matrix.T @ matrix
        total = total + (product * product).sum() - (lengths * lengths).sum()
    return total


def normal_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) = sum (mean^2 + variance - 1 - log variance) / 2.

    (N, F), (N, F) -> (): summed over the F numbers, averaged over the batch. Kingma and Welling
    2014, appendix B; in GANs the term of Zhang et al. 2017, eq. 2, which keeps what G is told
    of a caption near to random numbers.
    """
    terms = mean * mean + functions.exp(log_variance) - 1.0 - log_variance
    return terms.sum(axis=1).mean() * 0.5


def matching(scores: Tensor) -> Tensor:
    """- mean over i of (ln softmax(scores[i])[i] + ln softmax(scores[:, i])[i]): (N, N) -> ().

    scores[i, j] says how well image i fits caption j, of N that belong together one by one: which
    of the batch's captions is the image's, and which image the caption's? Xu et al. 2018, eq. 11
    to 13, averaged over the batch: 2 ln N if all scores are equal.
    """
    own = xp.arange(len(scores))
    return -sum(functions.log_softmax(scores, axis)[own, own].mean() for axis in (0, 1))


def clip_weights(network: Module, limit: float) -> None:
    """Hold every weight between -limit and limit.  Arjovsky et al. 2017, algorithm 1."""
    for parameter in network.parameters():
        parameter.data = xp.clip(parameter.data, -limit, limit, out=parameter.data)


def unrolled(
    game: Game, D: Module, real: Tensor, fake: Tensor, *, steps: int, rate: float
) -> Tensor:
    """G's loss against the D that D would become in some more steps of gradient descent.

    w[0] = D's weights,  w[k+1] = w[k] - rate dL_D(w[k]; real, fake) / dw,  L_G(w[steps]; fake)

    Metz et al. 2017, section 2.2. Every w[k] but the first depends on fake: create_graph records
    how, and the gradient runs through D's answer to what G does. D stays as it is.
    """
    later = copy.deepcopy(D) if steps else D
    for _ in range(steps):
        d_loss = game.discriminator(later(real), later(fake))
        weights = [w for w in dict.fromkeys(later.named_tensors().values()) if w.requires_grad]
        slopes = grad(d_loss, weights, create_graph=True)
        moved = {id(w): w - rate * slope for w, slope in zip(weights, slopes, strict=True)}
        later = copy.deepcopy(later, moved)  # with these in the places of the weights
    with later.frozen():  # weights that no step has moved are constants for G
        return game.generator(later(fake))
