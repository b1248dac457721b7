"""The class kit: the library passes every exercise, and typical wrong answers fail with reason."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import tinygan
from tinygan import Tensor, convolution, functions, grad, losses, normalization
from tinygan.backend import random_uniform, xp
from tinygan.functions import log, mean, sigmoid, softplus, sqrt
from tinygan.tensor import record

FOLDER = Path(__file__).parent / "exercises"
EXERCISES = runpy.run_path(str(FOLDER / "exercise_checks.py"))["EXERCISES"]


def batch_norm(x, scale, shift, epsilon=1e-5):
    return normalization.batch_norm(x, scale, shift, epsilon)[0]


def update(G, D, optimizer_g, optimizer_d, real, latent, *mistakes):
    """The update of the demos, with mistakes for those who ask for them."""
    game = losses.NonSaturating()
    fake = G(latent) if "no detach" in mistakes else G(latent).detach()
    d_loss = game.discriminator(D(real), D(fake))
    if "no zero_grad of D" not in mistakes:
        optimizer_d.zero_grad()
    (-d_loss if "wrong sign" in mistakes else d_loss).backward()
    optimizer_d.step()
    if "no step of G" in mistakes:
        return
    g_loss = game.generator(D(G(latent)))
    if "no zero_grad of G" not in mistakes:
        optimizer_g.zero_grad()
    if "no backward of G" not in mistakes:
        g_loss.backward()
    optimizer_g.step()


def update_with(*mistakes):
    return {"update": lambda *arguments: update(*arguments, *mistakes)}


def update_at_once(g_backward_first):
    """Both gradients before both steps."""

    def update(G, D, optimizer_g, optimizer_d, real, latent):
        game = losses.NonSaturating()
        optimizer_g.zero_grad()
        optimizer_d.zero_grad()
        g_loss = game.generator(D(G(latent)))
        d_loss = game.discriminator(D(real), D(G(latent).detach()))
        if g_backward_first:
            g_loss.backward()
            optimizer_d.zero_grad()
        d_loss.backward()
        if not g_backward_first:
            g_loss.backward()
        optimizer_d.step()
        optimizer_g.step()

    return {"update": update}


def update_with_an_early_loss(G, D, optimizer_g, optimizer_d, real, latent):
    game = losses.NonSaturating()
    g_loss = game.generator(D(G(latent)))
    optimizer_d.zero_grad()
    game.discriminator(D(real), D(G(latent).detach())).backward()
    optimizer_d.step()
    optimizer_g.zero_grad()
    g_loss.backward()
    optimizer_g.step()


def g_first(G, D, optimizer_g, optimizer_d, real, latent):
    optimizer_g.zero_grad()
    losses.NonSaturating().generator(D(G(latent))).backward()
    optimizer_g.step()


def penalty(critic, real, fake, *mistakes):
    """The library's gradient penalty, with mistakes."""
    shape = real.shape if "t for each pixel" in mistakes else (len(real), 1, 1, 1)
    shape = (1, 1, 1, 1) if "one t" in mistakes else shape
    t = random_uniform(*shape)
    u = Tensor(t * real.data + (1 - t) * fake.data, requires_grad=True)
    answer = critic(u).mean() if "mean" in mistakes else critic(u).sum()
    (slopes,) = grad(answer, [u], create_graph="no graph" not in mistakes)
    axes = None if "whole batch" in mistakes else -1 if "one axis" in mistakes else (1, 2, 3)
    squares = (slopes * slopes).sum(axes)
    length = squares if "no root" in mistakes else sqrt(
        squares + (0.0 if "steep" in mistakes else 1e-12)
    )
    return ((length - 1.0) ** 2).mean()


def penalty_with(*mistakes):
    return {"gradient_penalty": lambda *arguments: penalty(*arguments, *mistakes)}


SOLUTIONS = {
    "exercise_01_broadcast_add": {"add": functions.add},
    "exercise_02_matmul": {"matmul": functions.matmul},
    "exercise_03_leaky_relu": {"leaky_relu": functions.leaky_relu},
    "exercise_04_softplus": {"softplus": functions.softplus},
    "exercise_05_batch_norm": {"batch_norm": batch_norm},
    "exercise_06_unfold_fold": {"unfold": convolution.unfold, "fold": convolution.fold},
    "exercise_07_conv_transpose": {"conv_transpose2d": convolution.conv_transpose2d},
    "exercise_08_minimax_losses": {
        "discriminator_loss": losses.Minimax().discriminator,
        "generator_loss": losses.Minimax().generator,
    },
    "exercise_09_alternating_update": update_with(),
    "exercise_10_gradient_penalty": {"gradient_penalty": losses.gradient_penalty},
}


def adding(of_a, of_b):
    return {"add": lambda a, b: record(a.data + b.data, (a, b), of_a, of_b)}


def multiplying(of_a, of_b):
    return {"matmul": lambda a, b: record(
        a.data @ b.data, (a, b), lambda dy, y: of_a(dy, a, b), lambda dy, y: of_b(dy, a, b)
    )}


def leaking(derivative):
    def leaky_relu(x, slope):
        return record(xp.maximum(x.data, slope * x.data), (x,),
                      lambda dy, y: derivative(dy, x, slope))

    return {"leaky_relu": leaky_relu}


def softened(value, derivative):
    return {"softplus": lambda x: record(value(x.data), (x,), lambda dy, y: derivative(dy, x))}


def stable(x):
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


def normalised(of_x):
    def batch_norm(x, scale, shift):
        def root(x):
            return 1 / sqrt(mean((x - mean(x, 0)) ** 2, 0) + 1e-5)

        n = (x - mean(x, 0)) * root(x)
        return record(
            (n * scale + shift).data, (x, scale, shift),
            lambda dy, y: of_x(dy * scale * root(x), n),
            lambda dy, y: (dy * (x - mean(x, 0)) * root(x)).sum(0), lambda dy, y: dy.sum(0),
        )

    return {"batch_norm": batch_norm}


def folded(**changed):
    return SOLUTIONS["exercise_06_unfold_fold"] | changed


def overwriting_fold(columns, size, kernel, stride):
    y = xp.zeros((len(columns.data), *size, columns.shape[3] // kernel**2))
    for i in range(columns.shape[1]):
        for j in range(columns.shape[2]):
            place = y[:, stride * i :, stride * j :][:, :kernel, :kernel]
            place[...] = columns.data[:, i, j].reshape(place.shape)
    return record(y, (columns,), lambda dy, y: convolution.unfold(dy, kernel, stride))


def unfold_that_passes_back(derivative):
    def unfold(x, kernel, stride):
        y = convolution.unfold(x, kernel, stride).data
        return record(y, (x,), lambda dy, y: derivative(dy, x, kernel, stride))

    return folded(unfold=unfold)


def transposed(*mistakes):
    def conv_transpose2d(x, weight, stride, padding):
        size = [stride * (n - 1) + len(weight) - 2 * padding for n in x.shape[1:3]]
        if "no padding" in mistakes:
            size = [n + 2 * padding for n in size]
        z = Tensor(xp.zeros((len(x), *size, weight.shape[2])), requires_grad=True)
        y = convolution.conv2d(z, weight, stride, 0 if "no padding" in mistakes else padding)
        return grad((y * x).sum(), [z], create_graph="no graph" not in mistakes)[0]

    return {"conv_transpose2d": conv_transpose2d}


def games(**changed):
    return SOLUTIONS["exercise_08_minimax_losses"] | changed


WRONG = [
    ("01", adding(lambda dy, y: dy, lambda dy, y: dy), r"argument 1 \(b\).*was broadcast to"),
    ("01", adding(lambda dy, y: dy, lambda dy, y: dy.sum(0)),
     r"derivative of \S+ has shape \(4,\), but its input has shape \(3, 4\)"),
    ("01", {"add": lambda a, b: a.data + b.data}, "returns ndarray, not a Tensor"),
    ("01", {"add": lambda a, b: Tensor(a.data + b.data)}, "cut off the tape"),
    ("01", adding(lambda dy, y: Tensor(xp.ones(dy.shape)), lambda dy, y: dy),
     "the incoming gradient is ignored"),
    ("02", multiplying(lambda dy, a, b: dy @ b, lambda dy, a, b: a.transpose() @ dy),
     r"argument 0 \(a\).*shape, \(2, 3\): transpose"),
    ("02", multiplying(lambda dy, a, b: dy @ b.transpose(), lambda dy, a, b: dy.transpose() @ a),
     r"argument 1 \(b\).*has shape \(4, 3\).*this is the right one transposed"),
    ("02", multiplying(lambda dy, a, b: dy @ b.data.T, lambda dy, a, b: a.transpose() @ dy),
     "second derivative.*cut off the tape"),
    ("03", leaking(lambda dy, x, slope: dy * (x.data > 0)), "where the input is negative"),
    ("03", leaking(lambda dy, x, slope: dy * xp.where(x.data < 0, 1.0, slope)),
     "5 times the right number where the input is negative, and 0.2"),
    ("03", leaking(lambda dy, x, slope: Tensor(xp.where(x.data > 0, 1.0, slope))),
     "the incoming gradient is ignored"),
    ("03", {"leaky_relu": lambda x, slope: functions.relu(x)}, "this is the forward pass"),
    ("04", softened(lambda x: xp.log(1 + xp.exp(x)), lambda dy, x: dy * sigmoid(x)),
     r"e\^1000 overflows"),
    ("04", softened(stable, lambda dy, x: dy * functions.exp(x) / (1 + functions.exp(x))),
     "the derivative of softplus at -1000, 0 and 1000 gives nan"),
    ("04", softened(stable, lambda dy, x: dy * sigmoid(-x)), r"by argument 0 \(x\) at index"),
    ("05", normalised(lambda dy, n: dy), r"\(mean, variance\) are taken for constant"),
    ("05", normalised(lambda dy, n: dy - n * mean(dy * n, 0)),
     r"that is subtracted \(the mean\) is taken for constant along axis 0"),
    ("05", {"batch_norm": lambda x, scale, shift: (x - mean(x)) / sqrt(
        mean((x - mean(x)) ** 2) + 1e-5) * scale + shift}, "they belong to each column"),
    ("05", normalised(lambda dy, n: dy - mean(dy, 0) - n.detach() * mean(dy * n.detach(), 0)),
     "second derivative.*cut off the tape"),
    ("06", folded(fold=overwriting_fold), r"add them up, \+= and not ="),
    ("06", unfold_that_passes_back(
        lambda dy, x, kernel, stride: overwriting_fold(dy, x.shape[1:3], kernel, stride)),
     r"add up \(\+=, not =\)"),
    ("06", folded(unfold=lambda x, kernel, stride: convolution.unfold(x, kernel)),
     "unfold with kernel 2 and stride 2 returns shape"),
    ("07", transposed("no graph"), "create_graph=True"),
    ("07", transposed("no padding"), "padding 1 returns shape"),
    ("08", games(discriminator_loss=lambda x, g: softplus(-x).sum() + softplus(g).sum()),
     "this is the sum over the batch"),
    ("08", games(discriminator_loss=lambda x, g: softplus(x).mean() + softplus(-g).mean()),
     "real and generated are swapped"),
    ("08", games(discriminator_loss=lambda x, g: -softplus(-x).mean() - softplus(g).mean()),
     "the sign: D maximises this"),
    ("08", games(generator_loss=lambda g: softplus(-g).mean()), "the non-saturating loss"),
    ("08", games(generator_loss=lambda g: log(1 - sigmoid(g)).mean()),
     "rounded to 0 or 1 before its log was taken"),
    ("09", update_with("no detach"), "D's loss sent gradients into G"),
    ("09", update_with("no zero_grad of D"), r"in D's step .* zero_grad\(\) before backward"),
    ("09", update_with("no zero_grad of G"), r"in G's step .* zero_grad\(\) before backward"),
    ("09", update_at_once(True), "G's loss was sent back before D's step"),
    ("09", update_at_once(False), "G's loss was sent back before D's step"),
    ("09", {"update": update_with_an_early_loss}, "G's loss after D's step"),
    ("09", update_with("wrong sign"), "the wrong sign: optimizers minimise"),
    ("09", update_with("no step of G"), "took the steps D: D and G take one each"),
    ("09", update_with("no backward of G"), "G takes its step, but its parameters have no"),
    ("09", {"update": g_first}, "D comes first, then G"),
    ("10", penalty_with("no graph"), "create_graph=True"),
    ("10", penalty_with("no root"), "take the square root"),
    ("10", penalty_with("whole batch"), "the length is that of the whole batch"),
    ("10", penalty_with("one axis"), "all pixels of an image belong to it"),
    ("10", penalty_with("mean"), "the slopes are divided by N"),
    ("10", penalty_with("t for each pixel"), "one t for all pixels of an image"),
    ("10", penalty_with("one t"), "each must draw its own"),
    ("10", penalty_with("steep"), "infinitely steep"),
]


def check(stem, answer):
    tinygan.seed(0)
    EXERCISES[stem][1](SimpleNamespace(**answer))


@pytest.mark.parametrize("stem", EXERCISES)
def test_the_library_passes_every_exercise(stem):
    check(stem, SOLUTIONS[stem])


@pytest.mark.parametrize(("number", "answer", "message"), WRONG, ids=lambda value: None)
def test_a_typical_wrong_answer_fails_with_its_reason(number, answer, message):
    (stem,) = [stem for stem in EXERCISES if number in stem]
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        check(stem, answer)


def test_every_exercise_has_a_file_with_a_task_and_two_wrong_answers():
    files = {file.stem: file.read_text() for file in FOLDER.glob("exercise_[01]*.py")}
    assert files.keys() == EXERCISES.keys() == SOLUTIONS.keys() and len(files) == 10
    for stem, code in files.items():
        assert code.startswith(f'"""Exercise {int(stem[9:11])}: ')
        assert "raise NotImplementedError" in code
        assert sum(number in stem for number, *_ in WRONG) >= 2
        assert stem[9:11] in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("stem", EXERCISES)
def test_an_exercise_as_it_is_handed_out_is_not_started(stem):
    with pytest.raises(NotImplementedError, match="not started"):
        EXERCISES[stem][1](SimpleNamespace(**runpy.run_path(str(FOLDER / f"{stem}.py"))))


# ---------------------------------------------------------------- what a class sees


def run(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd,
    )


@pytest.fixture
def classroom(tmp_path):
    """A student's copy of the kit: one exercise right, one wrong, one with a mistake in Python."""
    folder = tmp_path / "exercises"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for number, line in [
        ("02_matmul", "return functions.matmul(a, b)"),
        ("03_leaky_relu",
         "y = xp.maximum(x.data, slope * x.data)\n"
         "    return record(y, (x,), lambda dy, y: dy * (y.data > 0))"),
        ("04_softplus", "return functions.softpluss(x)"),
    ]:
        file = folder / f"exercise_{number}.py"
        code = file.read_text().replace('raise NotImplementedError("not started")', line)
        file.write_text(code + "\n\nfrom tinygan import functions\n")
    return folder


def test_a_class_sees_how_every_exercise_stands(classroom):
    seen = run(classroom)
    lines = seen.stdout.splitlines()
    assert seen.returncode == 1
    assert lines[-11].split() == ["01", "broadcast", "add", "not", "started"]
    assert lines[-10].split() == ["02", "matmul", "done"]
    assert lines[-9].startswith("03 leaky relu") and "wrong" in lines[-9]
    assert lines[-1] == "1 of 10 exercises are done"
    assert "leaky_relu, first derivative by argument 0 (x) at index" in seen.stdout
    assert "where the input is negative" in seen.stdout
    assert "exercise_checks.py" not in seen.stdout  # no traceback through the kit
    assert "no attribute 'softpluss'" in seen.stdout and "exercise_04_softplus.py:" in seen.stdout


def test_one_exercise_can_be_asked_for(classroom):
    seen = run("exercise_02_matmul.py", cwd=classroom)
    assert seen.returncode == 0
    assert seen.stdout.splitlines()[-1] == "1 of 1 exercises are done"


def test_exercises_are_left_out_where_nobody_asked_for_them(classroom):
    (classroom.parent / "test_other.py").write_text("def test_other():\n    pass\n")
    seen = run(cwd=classroom.parent)
    assert seen.returncode == 0
    assert seen.stdout.splitlines()[-1].startswith("1 passed")
