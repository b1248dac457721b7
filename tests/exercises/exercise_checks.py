"""What each exercise has to do. A check takes the student's file as a module.

It raises NotImplementedError where the exercise is not started, and AssertionError with a
message for the student where it is wrong.
"""

import numpy

import tinygan
from tinygan import Tensor, check_gradients, grad, losses
from tinygan.functions import matmul
from tinygan.layers import Dense, Flatten, LeakyReLU, Module, Sequential, Tanh
from tinygan.optimizers import SGD
from tinygan.tensor import TapeError


def normal(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape)


def same_values(name, given, expected, known=None):
    """Raise AssertionError unless a result has the expected numbers.

    known: what a wrong answer would have given, by what to say about it.
    """
    if not isinstance(given, Tensor):
        raise AssertionError(
            f"{name} returns {type(given).__name__}, not a Tensor: does it return "
            "record(...), or the result of operations on Tensors?"
        )
    expected = numpy.asarray(expected)
    numbers = given.numpy()
    if numbers.shape != expected.shape:
        raise AssertionError(f"{name} returns shape {numbers.shape}, not {expected.shape}")
    error = numpy.abs(numbers - expected)
    if numpy.all(error <= 1e-6 * (1 + numpy.abs(expected))):
        return
    for hint, wrong in (known or {}).items():
        if numpy.allclose(numbers, wrong, rtol=1e-6, equal_nan=True):
            raise AssertionError(f"{name}: {hint}")
    error = numpy.nan_to_num(error, nan=numpy.inf)
    index = tuple(int(i) for i in numpy.unravel_index(numpy.argmax(error), error.shape))
    raise AssertionError(
        f"{name} gives {numbers[index]:.6g} at index {index} of shape {numbers.shape}, where "
        f"{expected[index]:.6g} is right: this is the forward pass, before any derivative"
    )


def gradients(function, *inputs, order=2):
    """check_gradients; what it cannot check is a mistake of the student's all the same."""
    try:
        with numpy.errstate(all="ignore"):
            check_gradients(function, *inputs, order=order)
    except ValueError as error:
        raise AssertionError(str(error)) from error


# ---------------------------------------------------------------- 1 to 4: number by number


def check_add(exercise):
    for shapes in [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 4), (3, 1)), ((2, 1, 4), (3, 1))]:
        a, b = (normal(*shape, seed=seed) for seed, shape in enumerate(shapes))
        same_values("add", exercise.add(Tensor(a), Tensor(b)), a + b)
        gradients(exercise.add, a, b)


def check_matmul(exercise):
    for n, m, o in [(2, 3, 4), (3, 3, 3), (4, 1, 2)]:
        a, b = normal(n, m), normal(m, o, seed=1)
        same_values("matmul", exercise.matmul(Tensor(a), Tensor(b)), a @ b)
        gradients(exercise.matmul, a, b)


def check_leaky_relu(exercise):
    x = normal(3, 4)
    for slope in (0.2, 0.0, 1.0):
        def leaky_relu(x, slope=slope):
            return exercise.leaky_relu(x, slope)

        same_values(f"leaky_relu with slope {slope}", leaky_relu(Tensor(x)),
                    numpy.where(x > 0, x, slope * x))
        gradients(leaky_relu, x)


def check_softplus(exercise):
    x = normal(3, 4)
    same_values("softplus", exercise.softplus(Tensor(x)), numpy.log(1 + numpy.exp(x)))
    gradients(exercise.softplus, x)
    large = Tensor(numpy.array([-1000.0, 0.0, 1000.0]), requires_grad=True)
    with numpy.errstate(all="ignore"):
        y = exercise.softplus(large)
        same_values("softplus of -1000, 0 and 1000", y, [0, numpy.log(2), 1000], {
            "e^1000 overflows: use the form with max(x, 0) and e^-|x|":
                [0, numpy.log(2), numpy.inf],
        })
        (slope,) = grad(y.sum(), [large])
        same_values("the derivative of softplus at -1000, 0 and 1000", slope, [0, 0.5, 1])


# ---------------------------------------------------------------- 5 to 7: layers


def check_batch_norm(exercise):
    x, scale, shift = normal(6, 3) * 2 + 1, normal(3, seed=1), normal(3, seed=2)

    def expected(variance):
        return (x - x.mean(0)) / numpy.sqrt(variance + 1e-5) * scale + shift

    given = exercise.batch_norm(Tensor(x), Tensor(scale), Tensor(shift))
    same_values("batch_norm", given, expected(x.var(0)), {
        "the variance is divided by M - 1; batch normalisation divides by M":
            expected(x.var(0, ddof=1)),
        "mean and variance are those of all numbers; they belong to each column, over axis 0":
            (x - x.mean()) / numpy.sqrt(x.var() + 1e-5) * scale + shift,
    })
    gradients(exercise.batch_norm, x, scale, shift)


def patches(x, kernel, stride):
    """unfold, as its formula says it."""
    rows, columns = ((length - kernel) // stride + 1 for length in x.shape[1:3])
    y = numpy.empty((len(x), rows, columns, kernel * kernel * x.shape[3]))
    for i in range(rows):
        for j in range(columns):
            top, left = stride * i, stride * j
            patch = x[:, top : top + kernel, left : left + kernel]
            y[:, i, j] = patch.reshape(len(x), -1)
    return y


def images(columns, size, kernel, stride, add=True):
    """fold, as its formula says it; without add, where later patches overwrite earlier ones."""
    n, rows, cols, numbers = columns.shape
    y = numpy.zeros((n, *size, numbers // kernel**2))
    for i in range(rows):
        for j in range(cols):
            top, left = stride * i, stride * j
            patch = columns[:, i, j].reshape(n, kernel, kernel, -1)
            place = y[:, top : top + kernel, left : left + kernel]
            place[...] = place + patch if add else patch
    return y


def check_unfold_fold(exercise):
    for kernel, stride in [(2, 1), (2, 2), (3, 2)]:
        def unfold(x, kernel=kernel, stride=stride):
            return exercise.unfold(x, kernel, stride)

        def fold(columns, kernel=kernel, stride=stride):
            return exercise.fold(columns, (4, 5), kernel, stride)

        x = normal(2, 4, 5, 2)
        z = normal(*patches(x, kernel, stride).shape, seed=1)
        what = f"with kernel {kernel} and stride {stride}"
        same_values(f"unfold {what}", unfold(Tensor(x)), patches(x, kernel, stride))
        same_values(f"fold {what}", fold(Tensor(z)), images(z, (4, 5), kernel, stride), {
            "where patches overlap the later one overwrites: add them up, += and not =":
                images(z, (4, 5), kernel, stride, add=False),
        })
        gradients(unfold, x)
        gradients(fold, z)


def check_conv_transpose(exercise):
    for kernel, stride, padding in [(3, 1, 0), (3, 1, 1), (4, 2, 1)]:
        def conv_transpose2d(x, weight, stride=stride, padding=padding):
            return exercise.conv_transpose2d(x, weight, stride, padding)

        x, weight = normal(2, 2, 3, 2), normal(kernel, kernel, 1, 2, seed=1)
        size = [stride * (length - 1) + kernel for length in (2, 3)]
        painted = numpy.einsum("nijo,abco->nijabc", x, weight).reshape(2, 2, 3, -1)
        whole = images(painted, size, kernel, stride)
        expected = whole[:, padding : size[0] - padding, padding : size[1] - padding]
        what = f"conv_transpose2d with kernel {kernel}, stride {stride} and padding {padding}"
        same_values(what, conv_transpose2d(Tensor(x), Tensor(weight)), expected)
        gradients(conv_transpose2d, x, weight)


# ---------------------------------------------------------------- 8 to 10: the game


def check_minimax(exercise):
    real, fake = normal(5, 1) * 2, normal(5, 1, seed=1) * 2
    of_real, of_fake = (1 / (1 + numpy.exp(-logits)) for logits in (real, fake))
    log = numpy.log
    right = -log(of_real).mean() - log(1 - of_fake).mean()
    d_loss = exercise.discriminator_loss(Tensor(real), Tensor(fake))
    if isinstance(d_loss, Tensor) and d_loss.shape == (5, 1):
        raise AssertionError("discriminator_loss has shape (5, 1): take the mean over the batch")
    same_values("discriminator_loss", d_loss, right, {
        "the sign: D maximises this, so the loss to be minimised is minus it": -right,
        "this is the sum over the batch; E is its mean": right * 5,
        "real and generated are swapped: D(x) should go to 1, D(G(z)) to 0":
            -log(1 - of_real).mean() - log(of_fake).mean(),
        "the generated images are missing": -log(of_real).mean(),
    })
    right = log(1 - of_fake).mean()
    same_values("generator_loss", exercise.generator_loss(Tensor(fake)), right, {
        "the sign: G minimises what D maximises": -right,
        "this is the sum over the batch; E is its mean": right * 5,
        "this is -E log D(G(z)), the non-saturating loss: here the minimax game itself is asked":
            -log(of_fake).mean(),
    })
    gradients(exercise.discriminator_loss, real, fake)
    gradients(exercise.generator_loss, fake)
    with numpy.errstate(all="ignore"):
        large = Tensor(numpy.array([[1000.0], [-1000.0]]))
        wanted = {"discriminator_loss": 1000.0, "generator_loss": -500.0}
        for name, loss in [("discriminator_loss", exercise.discriminator_loss(large, large)),
                           ("generator_loss", exercise.generator_loss(large))]:
            if not numpy.isfinite(loss.item()):
                raise AssertionError(
                    f"{name} of the logits 1000 and -1000 is {loss.item()}: the probability "
                    "rounded to 0 or 1 before its log was taken; use softplus of the logits"
                )
            same_values(f"{name} of the logits 1000 and -1000", loss, wanted[name])


def in_float64(network):
    for parameter in network.parameters():
        parameter.data = parameter.data.astype("float64")
    return network


class Watched(SGD):
    """An optimizer that tells a list of every step before it takes it."""

    def __init__(self, network, tell):
        super().__init__(network.parameters(), lr=0.3)
        self.tell = tell

    def step(self):
        self.tell()
        super().step()


def grads(network):
    return [None if p.grad is None else p.grad.numpy().copy() for p in network.parameters()]


def plus(a, factor, b):
    return [one + factor * other for one, other in zip(a, b, strict=True)]


def moved(now, before):
    """Whether there are gradients that were not there before."""
    return any(
        a is not None and (b is None or not numpy.array_equal(a, b))
        for a, b in zip(now, before, strict=True)
    )


def agree(given, expected):
    return all(
        a is not None and numpy.allclose(a, b, rtol=1e-6, atol=1e-12)
        for a, b in zip(given, expected, strict=True)
    )


def check_update(exercise):
    """Each step must use the gradient that its own loss has at that moment, and no other."""
    tinygan.seed(0)
    G = in_float64(Sequential(Dense(2, 4), Tanh(), Dense(4, 2)))
    D = in_float64(Sequential(Dense(2, 5), LeakyReLU(0.2), Dense(5, 1)))
    game, steps = losses.NonSaturating(), []
    real, latent = Tensor(normal(6, 2) + 2), Tensor(normal(6, 2, seed=1))

    def true_gradient(player):
        if player == "D":
            loss = game.discriminator(D(real), D(G(latent).detach()))
        else:
            loss = game.generator(D(G(latent)))
        return [g.numpy() for g in grad(loss, (D if player == "D" else G).parameters())]

    def check_step(player):
        steps.append(player)
        if steps == ["G"]:
            raise AssertionError("update: G took its step first; D comes first, then G")
        network = D if player == "D" else G
        given, right = grads(network), true_gradient(player)
        if player == "D" and moved(grads(G), start["G"]):
            if agree(plus(grads(G), -1, left_over("G")), old_gradient) or agree(
                grads(G), old_gradient
            ):
                raise AssertionError(
                    "update: G's loss was sent back before D's step: the players alternate, so "
                    "compute G's loss after optimizer_d.step(), against the new D"
                )
            raise AssertionError(
                "update: D's loss sent gradients into G: in D's step the images of G are data; "
                "use G(latent).detach()"
            )
        if agree(given, right):
            return
        if any(g is None for g in given):
            raise AssertionError(
                f"update: {player} takes its step, but its parameters have no gradient: call "
                "backward() on its loss after zero_grad() and before step()"
            )
        message = (
            "is not that of its loss at this moment: for each player by itself zero_grad(), loss, "
            "backward(), step(), and G's loss after D's step"
        )
        if agree([-g for g in given], right):
            message = "has the wrong sign: optimizers minimise"
        elif agree(plus(given, -1, left_over(player)), right):
            message = "still holds that of earlier losses: zero_grad() before backward()"
        raise AssertionError(f"update: in {player}'s step the gradient {message}")

    def left_over(player):
        """What the gradient held at the start; for G, also what D's loss may have sent there."""
        network = D if player == "D" else G
        zeros = [numpy.zeros(p.shape) for p in network.parameters()]
        return [z if g is None else g for g, z in zip(start[player], zeros, strict=True)]

    watched = Watched(G, lambda: check_step("G")), Watched(D, lambda: check_step("D"))
    for _ in range(2):  # at the second, gradients are left over from the first
        steps.clear()
        start = {"G": grads(G), "D": grads(D)}
        old_gradient = true_gradient("G")
        try:
            exercise.update(G, D, *watched, real, latent)
        except TapeError as error:
            if "changed since" not in str(error):
                raise
            raise AssertionError(f"update: compute G's loss after D's step ({error})") from error
        if steps != ["D", "G"]:
            raise AssertionError(
                f"update took the steps {', '.join(steps) or 'none'}: D and G take one each, "
                "with optimizer_d.step() and optimizer_g.step()"
            )


class Linear(Module):
    """l(x) = <w, x>, whose slope is w everywhere; it keeps what it is asked about."""

    def __init__(self, w):
        self.w, self.asked = w, []

    def forward(self, x):
        self.asked.append(x.numpy())
        return matmul(x.reshape(len(x), -1), Tensor(self.w.reshape(-1, 1)))


class Penalty(Module):
    """The penalty as a function of the critic's parameters, with u = x whatever t is."""

    def __init__(self, gradient_penalty, critic, real):
        self.gradient_penalty, self.critic, self.real = gradient_penalty, critic, [real]

    def forward(self, rows):
        tinygan.seed(0)
        real = Tensor(self.real[0])
        return self.gradient_penalty(self.critic, real, real)


def check_gradient_penalty(exercise):
    real, fake = normal(4, 2, 3, 1), normal(4, 2, 3, 1, seed=1)
    w = normal(2, 3, 1, seed=2)
    w *= 3 / numpy.linalg.norm(w)
    linear = Linear(w)
    penalty = exercise.gradient_penalty(linear, Tensor(real), Tensor(fake))
    same_values("gradient_penalty of a critic whose slope has length 3", penalty, 4.0, {
        "this is (|grad|^2 - 1)^2: take the square root of the sum of squares": 64.0,
        "the length is that of the whole batch: sum the squares over all axes but the first":
            (3 * numpy.sqrt(4) - 1) ** 2,
        "the slopes are divided by N: take critic(u).sum(), not its mean": (3 / 4 - 1) ** 2,
        "this is the sum over the batch: E is its mean": 16.0,
        "this is |grad|^2, without the - 1": 9.0,
        **{
            f"the length is over axis {axis + 1} alone; all pixels of an image belong to it":
                numpy.mean((numpy.linalg.norm(w, axis=axis) - 1) ** 2)
            for axis in range(3)
        },
    })
    shares = (linear.asked[-1] - fake) / (real - fake)
    shares = shares.reshape(4, -1)
    if not numpy.allclose(shares, shares[:, :1], atol=1e-5):
        raise AssertionError(
            "gradient_penalty: u is not t x + (1 - t) G(z) with one t for all pixels of an image: "
            "draw t with shape (N, 1, 1, 1)"
        )
    if shares.min() < -1e-5 or shares.max() > 1 + 1e-5 or numpy.ptp(shares[:, 0]) < 1e-3:
        raise AssertionError(
            f"gradient_penalty: the images have t = {numpy.round(shares[:, 0], 3).tolist()}: each "
            "must draw its own, uniform in [0, 1]"
        )
    tinygan.seed(0)
    critic = in_float64(Sequential(Flatten(), Dense(6, 5), Tanh(), Dense(5, 1)))
    gradients(Penalty(exercise.gradient_penalty, critic, real), numpy.array([0]), order=1)
    flat = in_float64(Sequential(Flatten(), Dense(6, 1, scale=0.0)))
    with numpy.errstate(all="ignore"):
        penalty = exercise.gradient_penalty(flat, Tensor(real), Tensor(fake))
        penalty.backward()
    found = [gradient for gradient in grads(flat) if gradient is not None]
    if not all(numpy.isfinite(gradient).all() for gradient in found):
        raise AssertionError(
            "gradient_penalty has no finite gradient where the critic is flat: the square root at "
            "0 is infinitely steep; add 1e-12 under it"
        )


EXERCISES = {
    "exercise_01_broadcast_add": ("broadcast add", check_add),
    "exercise_02_matmul": ("matrix product", check_matmul),
    "exercise_03_leaky_relu": ("leaky ReLU", check_leaky_relu),
    "exercise_04_softplus": ("softplus", check_softplus),
    "exercise_05_batch_norm": ("batch normalisation", check_batch_norm),
    "exercise_06_unfold_fold": ("unfold and fold", check_unfold_fold),
    "exercise_07_conv_transpose": ("transposed convolution", check_conv_transpose),
    "exercise_08_minimax_losses": ("minimax losses", check_minimax),
    "exercise_09_alternating_update": ("alternating update", check_update),
    "exercise_10_gradient_penalty": ("gradient penalty", check_gradient_penalty),
}
