"""The games against their formulas, and the penalties against closed forms and differences."""

import math

import numpy
import pytest

import tinygan
from tinygan import Tensor, check_gradients, functions, grad
from tinygan.backend import to_device
from tinygan.layers import Conv2d, Dense, Flatten, Sequential, Tanh
from tinygan.losses import (
    GAMES,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Wasserstein,
    clip_weights,
    gradient_penalty,
    orthogonal_penalty,
    r1_penalty,
)
from tinygan.normalization import LayerNorm
from tinygan.optimizers import SGD

REAL = numpy.random.default_rng(0).standard_normal((6, 1)) * 2
FAKE = numpy.random.default_rng(1).standard_normal((6, 1)) * 2


def log(x):
    return numpy.log(x)


def D(logits):
    """The probability that D gives: the sigmoid, written out."""
    return 1 / (1 + numpy.exp(-logits))


# game: (what D minimises for real and fake logits, what G minimises), written as in the papers.
FORMULAS = {
    Minimax: (lambda x, g: -log(D(x)).mean() - log(1 - D(g)).mean(),
              lambda g: log(1 - D(g)).mean()),
    NonSaturating: (lambda x, g: -log(D(x)).mean() - log(1 - D(g)).mean(),
                    lambda g: -log(D(g)).mean()),
    LeastSquares: (lambda x, g: ((x - 1) ** 2).mean() / 2 + (g**2).mean() / 2,
                   lambda g: ((g - 1) ** 2).mean() / 2),
    Hinge: (lambda x, g: -numpy.minimum(0, x - 1).mean() - numpy.minimum(0, -g - 1).mean(),
            lambda g: -g.mean()),
    Wasserstein: (lambda x, g: g.mean() - x.mean(), lambda g: -g.mean()),
}
games = pytest.mark.parametrize("game", FORMULAS)


def test_every_game_can_be_chosen_by_name():
    assert set(GAMES.values()) == set(FORMULAS)


@games
def test_losses_are_the_formulas_of_the_papers(game):
    of_d, of_g = FORMULAS[game]
    d_loss = game().discriminator(Tensor(REAL), Tensor(FAKE))
    g_loss = game().generator(Tensor(FAKE))
    assert d_loss.item() == pytest.approx(of_d(REAL, FAKE), rel=1e-13)
    assert g_loss.item() == pytest.approx(of_g(FAKE), rel=1e-13)


@games
def test_gradients_to_second_order(game):
    check_gradients(game().discriminator, REAL, FAKE)
    check_gradients(game().generator, FAKE)


@games
def test_both_losses_are_scalars_of_the_dtype_of_the_logits(game):
    for dtype in ("float32", "float64"):
        x, g = Tensor(REAL.astype(dtype)), Tensor(FAKE.astype(dtype))
        for loss in (game().discriminator(x, g), game().generator(g)):
            assert loss.shape == () and loss.dtype == dtype


@games
@pytest.mark.parametrize("size", [100.0, 1000.0])
@pytest.mark.filterwarnings("error")
def test_logits_of_any_size_give_finite_losses_and_gradients(game, size):
    real = Tensor([[size], [-size], [0.0]], requires_grad=True)
    fake = Tensor([[size], [-size], [0.0]], requires_grad=True)
    for loss, logits in [
        (game().discriminator(real, fake), [real, fake]),
        (game().generator(fake), [fake]),
    ]:
        assert math.isfinite(loss.item())
        slopes = grad(loss, logits, create_graph=True)
        curvatures = grad(sum((s * s).sum() for s in slopes) + loss * 0.0, logits)
        assert all(numpy.isfinite(g.numpy()).all() for g in [*slopes, *curvatures])


@games
@pytest.mark.parametrize("player", ["D on real", "D on fake", "G"])
def test_each_player_pulls_the_logits_to_its_side(game, player):
    logits = Tensor([[0.5], [-0.5]], requires_grad=True)
    other = Tensor([[0.3]])
    loss, wanted = {
        "D on real": (lambda: game().discriminator(logits, other), 1),
        "D on fake": (lambda: game().discriminator(other, logits), -1),
        "G": (lambda: game().generator(logits), 1),
    }[player]
    (slopes,) = grad(loss(), [logits])
    if not (game is LeastSquares and player == "D on fake"):
        assert (numpy.sign(-slopes.numpy()) == wanted).all()
    else:  # which pulls to 0 from both sides
        assert numpy.sign(-slopes.numpy()).reshape(-1).tolist() == [-1, 1]


@games
def test_the_balance_is_the_least_that_d_can_lose_with_one_answer_to_all(game):
    def loss(answer):
        same = Tensor(numpy.full((5, 1), answer))
        return game().discriminator(same, same).item()

    assert min(loss(answer) for answer in numpy.linspace(-3, 3, 601)) == pytest.approx(
        game.balance, abs=1e-12
    )


PROBABLE = {"D(x)": D(REAL).mean(), "D(G(z))": D(FAKE).mean()}
ANSWERS = {
    Minimax: PROBABLE, NonSaturating: PROBABLE,
    LeastSquares: {"D(x)": REAL.mean(), "D(G(z))": FAKE.mean()},
    Hinge: {"D(x)": REAL.mean(), "D(G(z))": FAKE.mean()},
    Wasserstein: {"Wasserstein estimate": REAL.mean() - FAKE.mean()},
}


@games
def test_answers_are_logged_as_the_game_means_them(game):
    answers = game().answers(Tensor(REAL), Tensor(FAKE))
    assert list(answers) == list(ANSWERS[game])
    for name, answer in answers.items():
        assert answer.shape == () and float(answer) == pytest.approx(ANSWERS[game][name], rel=1e-12)
        assert name in game.reading


def test_the_wasserstein_estimate_is_minus_the_loss_of_the_critic():
    game, x, g = Wasserstein(), Tensor(REAL), Tensor(FAKE)
    (estimate,) = game.answers(x, g).values()
    assert float(estimate) == pytest.approx(-float(game.discriminator(x, g)))


@pytest.mark.parametrize("game", [Minimax, NonSaturating])
def test_a_discriminator_that_cannot_tell_loses_two_log_two(game):
    # Goodfellow et al. 2014, theorem 1: at D = 1/2 the value of the game is -log 4.
    undecided = Tensor(numpy.zeros((5, 1)))
    loss = game().discriminator(undecided, undecided).item()
    assert loss == pytest.approx(1.3862943611198906, rel=1e-15)


def test_at_the_equilibrium_no_logit_wants_to_move():
    real, fake = (Tensor(numpy.zeros((5, 1)), requires_grad=True) for _ in range(2))
    by_real, by_fake = grad(Minimax().discriminator(real, fake), [real, fake])
    # where real and generated images are the same, the two pulls cancel
    assert (by_real.numpy() + by_fake.numpy() == 0).all() and by_real.numpy().all()


def test_minimax_saturates_where_non_saturating_does_not():
    rejected = [[-20.0]]
    slopes = []
    for game in (Minimax, NonSaturating):
        logits = Tensor(numpy.array(rejected), requires_grad=True)
        slopes.append(grad(game().generator(logits), [logits])[0].item())
    assert slopes == pytest.approx([-D(-20.0), D(-20.0) - 1], rel=1e-6)
    assert abs(slopes[0]) < 1e-8 and slopes[1] < -0.99


def test_minimax_players_want_opposite_things_from_the_fakes():
    logits = Tensor(FAKE, requires_grad=True)
    (by_g,) = grad(Minimax().generator(logits), [logits])
    (by_d,) = grad(Minimax().discriminator(Tensor(REAL), logits), [logits])
    numpy.testing.assert_allclose(by_g.numpy(), -by_d.numpy(), rtol=1e-14)


def test_hinge_leaves_alone_what_is_on_the_right_side_by_a_margin():
    real, fake = Tensor([[1.5]], requires_grad=True), Tensor([[-1.5]], requires_grad=True)
    loss = Hinge().discriminator(real, fake)
    slopes = grad(loss, [real, fake])
    assert loss.item() == 0 and [slope.item() for slope in slopes] == [0, 0]


# ---------------------------------------------------------------- penalties


def normal(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape)


def linear(direction):
    """The critic l(x) = <direction, x>, for images of the direction's shape."""
    return lambda x: (x * direction).sum(axis=tuple(range(1, x.ndim)))


@pytest.mark.parametrize("shape", [(2,), (4, 3, 2)])
def test_the_gradient_penalty_of_a_linear_critic_is_that_of_its_slope(shape):
    direction = normal(*shape, seed=5)
    direction /= numpy.linalg.norm(direction)
    real, fake = Tensor(normal(7, *shape)), Tensor(normal(7, *shape, seed=1))
    for slope in (1.0, 3.0, 0.25):
        penalty = gradient_penalty(linear(Tensor(direction * slope)), real, fake)
        assert penalty.shape == () and penalty.item() == pytest.approx((slope - 1) ** 2, abs=1e-11)


def test_the_slopes_are_taken_between_real_and_fake():
    # l(x) = x^2 / 2 has slope x: between 2 and 4 the penalty is within (1, 9), with mean 13/3.
    seen = []

    def critic(x):
        seen.append(x.numpy().copy())
        return (x * x).sum(axis=1) * 0.5

    real, fake = Tensor(numpy.full((4000, 1), 2.0)), Tensor(numpy.full((4000, 1), 4.0))
    penalty = gradient_penalty(critic, real, fake).item()
    (points,) = seen
    assert 2 <= points.min() < 2.01 and 3.99 < points.max() <= 4
    assert penalty == pytest.approx(((points - 1) ** 2).mean(), rel=1e-9)
    assert abs(penalty - 13 / 3) < 5 * 2.34 / 4000**0.5  # five standard errors


def test_all_pixels_of_an_image_lie_equally_far_on_the_way():
    seen = []

    def critic(x):
        seen.append(x.numpy().copy())
        return x.sum(axis=(1, 2, 3))

    gradient_penalty(critic, Tensor(numpy.zeros((5, 3, 2, 1))), Tensor(numpy.ones((5, 3, 2, 1))))
    shares = seen[0].reshape(5, 6)
    assert (shares == shares[:, :1]).all() and len(set(shares[:, 0])) == 5


def flat_critic(x):
    return (x * 0.0).sum(axis=1)


def test_the_gradient_penalty_is_differentiable_where_the_slope_is_zero():
    weight = Tensor(numpy.zeros((3, 1)), requires_grad=True)
    penalty = gradient_penalty(
        lambda x: functions.matmul(x, weight), Tensor(normal(4, 3)), Tensor(normal(4, 3, seed=1))
    )
    penalty.backward()
    assert penalty.item() == pytest.approx(1, abs=1e-5)
    assert numpy.isfinite(weight.grad.numpy()).all()
    assert gradient_penalty(flat_critic, Tensor(normal(4, 3)), Tensor(normal(4, 3))).item() > 0.99


@pytest.mark.parametrize("shape", [(2,), (4, 3, 2)])
def test_the_r1_penalty_of_a_linear_critic_is_half_its_squared_slope(shape):
    direction = normal(*shape, seed=5)
    penalty = r1_penalty(linear(Tensor(direction)), Tensor(normal(7, *shape)))
    assert penalty.shape == ()
    assert penalty.item() == pytest.approx((direction**2).sum() / 2, rel=1e-13)


def test_the_r1_penalty_is_taken_at_the_real_images():
    x = normal(6, 3)  # l(x) = |x|^2 / 2 has the slope x
    penalty = r1_penalty(lambda x: (x * x).sum(axis=1) * 0.5, Tensor(x))
    assert penalty.item() == pytest.approx((x**2).sum(axis=1).mean() / 2, rel=1e-13)


def dense_critic():
    return Sequential(Flatten(), Dense(12, 5), LayerNorm(5), Tanh(), Dense(5, 1))


def convolutional_critic():
    return Sequential(Conv2d(1, 3, kernel=3, stride=2, padding=1, scale=0.5), Tanh(),
                      Flatten(), Dense(12, 1))


PENALTIES = {
    "gradient penalty": lambda critic, x, y: gradient_penalty(critic, x, y),
    "r1": lambda critic, x, y: r1_penalty(critic, x),
}


@pytest.mark.parametrize("make", [dense_critic, convolutional_critic])
@pytest.mark.parametrize("name", PENALTIES)
def test_the_gradients_of_a_penalty_by_the_weights_are_those_of_finite_differences(make, name):
    critic = make()
    real, fake = Tensor(normal(4, 4, 3, 1)), Tensor(normal(4, 4, 3, 1, seed=1))
    for parameter in critic.parameters():
        parameter.data = parameter.data.astype("float64")

    def penalty():
        tinygan.seed(3)  # the same points between real and fake each time
        return PENALTIES[name](critic, real, fake)

    penalty().backward()
    moved = 0
    for parameter in critic.parameters():
        if parameter.grad is None:  # the last bias: the slope does not depend on it
            continue
        direction, middle = normal(*parameter.shape, seed=2), parameter.data
        ends = []
        for step in (1e-5, -1e-5):
            parameter.data = middle + step * to_device(direction)
            ends.append(penalty().item())
        parameter.data = middle
        along = (parameter.grad.numpy() * direction).sum()
        assert along == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-9)
        moved += along != 0
    assert moved >= len(critic.parameters()) - 1


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_moves_nothing_but_the_weights(name):
    critic = dense_critic()
    real, fake = (Tensor(normal(4, 12), requires_grad=True) for _ in range(2))
    penalty = PENALTIES[name](critic, real, fake)
    assert all(parameter.grad is None for parameter in critic.parameters())
    penalty.backward()
    assert real.grad is None and fake.grad is None
    assert critic.layers[1].weight.grad.numpy().any()


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_keep_float32(name):
    critic = dense_critic()
    real, fake = (Tensor(normal(4, 12, seed=i).astype("float32")) for i in range(2))
    penalty = PENALTIES[name](critic, real, fake)
    penalty.backward()
    assert penalty.dtype == critic.layers[1].weight.grad.dtype == "float32"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", PENALTIES)
def test_minimising_a_penalty_reaches_its_minimum(name):
    weight = Tensor(normal(3, 1, seed=4), requires_grad=True)
    sgd = SGD([weight], 0.1)
    x, y = Tensor(normal(8, 3)), Tensor(normal(8, 3, seed=1))
    for _ in range(200):
        sgd.zero_grad()
        PENALTIES[name](lambda x: functions.matmul(x, weight), x, y).backward()
        sgd.step()
    slope = numpy.linalg.norm(weight.numpy())
    assert slope == pytest.approx({"gradient penalty": 1, "r1": 0}[name], abs=1e-6)


def by_formula(*matrices):
    """Brock et al. 2019, eq. 3."""
    products = [matrix.T @ matrix for matrix in matrices]
    return sum(((p * (1 - numpy.eye(len(p)))) ** 2).sum() for p in products)


def test_the_orthogonal_penalty_is_the_formula_of_the_paper():
    arrays = normal(5, 3), normal(3, 7, seed=1), normal(2, 2, 3, 4, seed=2)
    penalty = orthogonal_penalty([Tensor(array) for array in arrays])
    expected = by_formula(arrays[0], arrays[1], arrays[2].reshape(12, 4))
    assert penalty.shape == () and penalty.item() == pytest.approx(expected, rel=1e-12)


def test_the_orthogonal_penalty_is_zero_for_columns_of_any_length_at_right_angles():
    columns, _ = numpy.linalg.qr(normal(6, 4))
    assert orthogonal_penalty([Tensor(columns * [1, 2, 3, 4])]).item() == pytest.approx(0, abs=1e-9)
    assert orthogonal_penalty([Tensor(columns + 0.1)]).item() > 0.01


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (2, 2, 2, 3)])
def test_the_gradients_of_the_orthogonal_penalty(shape):
    check_gradients(lambda weight: orthogonal_penalty([weight]), normal(*shape))


def test_the_orthogonal_penalty_keeps_float32():
    weight = Tensor(normal(5, 3).astype("float32"), requires_grad=True)
    penalty = orthogonal_penalty([weight])
    penalty.backward()
    assert penalty.dtype == weight.grad.dtype == "float32"


def test_clip_weights_holds_every_weight_and_leaves_the_rest():
    critic = dense_critic()
    before = critic.state()
    clip_weights(critic, 0.1)
    for name, array in critic.state().items():
        assert numpy.array_equal(array, before[name].clip(-0.1, 0.1)), name
        assert array.dtype == "float32"
    assert abs(before["layers.1.weight"]).max() > 0.1  # there was something to clip
