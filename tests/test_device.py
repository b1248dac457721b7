"""CuPy gives NumPy's numbers, and a training step asks of the device no more than it must.

With `--device gpu` CuPy runs on the GPU. Otherwise it runs on the CPU, where the wheel and g++
are (cupy_on_cpu/cuda_on_cpu.py): there launches, copies and waits can be counted too.
"""

import contextlib
import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import test_convolution
import test_functions
from test_demos import clean

import tinygan
from tinygan import (
    Tensor,
    attention,
    convolution,
    functions,
    layers,
    losses,
    no_grad,
    normalization,
    optimizers,
)
from tinygan.backend import to_device, xp
from tinygan.tensor import record

DEMOS = Path(__file__).parents[1] / "demos"
CUPY_ON_CPU = Path(__file__).with_name("cupy_on_cpu")
pytestmark = pytest.mark.usefixtures("with_cupy")


def on_both(computation):
    """What a function returns, a dict of arrays, on NumPy and on CuPy, from the same seed."""
    results = []
    for device in ("cpu", "gpu"):
        tinygan.use_device(device)
        tinygan.seed(0)
        results.append(computation())
    return results


def assert_same_on_both(computation, rtol=2e-5, atol=2e-6):
    on_numpy, on_cupy = on_both(computation)
    assert on_numpy.keys() == on_cupy.keys() and on_numpy
    for name, expected in on_numpy.items():
        assert on_cupy[name].dtype == expected.dtype != "float64", name
        numpy.testing.assert_allclose(on_cupy[name], expected, rtol, atol, err_msg=name)


def values_and_gradients(function, tensors):
    output = function(*tensors)
    weights = to_device(numpy.random.default_rng(1).random(output.shape, dtype="float32"))
    (output * weights).sum().backward()
    gradients = {f"input {i}": t.grad.numpy() for i, t in enumerate(tensors) if t.requires_grad}
    return {"output": output.numpy()} | gradients


def on_device(array):
    """In float32 and to be differentiated by, but for integers, which stay what they are."""
    if array.dtype.kind != "f":
        return Tensor(to_device(array))
    return Tensor(to_device(array.astype("float32")), requires_grad=True)


# ---------------------------------------------------------------- the same numbers


@pytest.mark.parametrize("case", test_functions.CASES)
def test_a_function_and_its_gradients(case):
    function, _, inputs = test_functions.CASES[case]
    assert_same_on_both(
        lambda: values_and_gradients(function, [on_device(array) for array in inputs])
    )


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d", "conv_weight", "unfold", "fold"])
@pytest.mark.parametrize("case", ["halved as in DCGAN", "stride does not divide kernel"])
def test_a_convolution_and_its_gradients(name, case):
    shape = test_convolution.CASES[case]
    kernel, stride, padding = shape.kernel, shape.stride, shape.padding
    size = shape.height, shape.width
    x = test_functions.normal(shape.n, *size, shape.inputs)
    y = test_functions.normal(shape.n, shape.rows, shape.columns, shape.outputs)
    w = test_functions.normal(kernel, kernel, shape.inputs, shape.outputs)
    unfolded = (size[0] - kernel) // stride + 1, (size[1] - kernel) // stride + 1
    columns = test_functions.normal(shape.n, *unfolded, kernel * kernel * shape.inputs)
    function, inputs = {
        "conv2d": (lambda x, w: convolution.conv2d(x, w, stride, padding), [x, w]),
        "conv_transpose2d": (
            lambda y, w: convolution.conv_transpose2d(y, w, stride, padding, size), [y, w]),
        "conv_weight": (
            lambda x, y: convolution.conv_weight(x, y, kernel, stride, padding), [x, y]),
        "unfold": (lambda x: convolution.unfold(x, kernel, stride), [x]),
        "fold": (lambda columns: convolution.fold(columns, size, kernel, stride), [columns]),
    }[name]
    assert_same_on_both(
        lambda: values_and_gradients(function, [on_device(array) for array in inputs]), atol=1e-5
    )


class WordContext(layers.Module):
    """What attention tells the pixels, all words being there."""

    def __init__(self, layer):
        self.layer = layer

    def forward(self, images, words):
        return self.layer(images, words, xp.ones(words.shape[:2], bool))[0]


LAYERS = {  # (how it is made, the shape of what it takes, and of what else)
    "Dense": (lambda: layers.Dense(3, 4), (5, 3)),
    "Conv2d": (lambda: layers.Conv2d(2, 3, kernel=4, stride=2, padding=1), (2, 6, 6, 2)),
    "ConvTranspose2d": (
        lambda: layers.ConvTranspose2d(2, 3, kernel=4, stride=2, padding=1), (2, 3, 3, 2)),
    "Embedding": (lambda: layers.Embedding(6, 3), None),
    "BatchNorm": (lambda: normalization.BatchNorm(3), (4, 2, 2, 3)),
    "ConditionalBatchNorm": (
        lambda: normalization.ConditionalBatchNorm(3, 2), (4, 2, 2, 3), (4, 2)),
    "SpectralNorm": (lambda: normalization.SpectralNorm(layers.Dense(3, 4)), (5, 3)),
    "ModulatedConv2d": (
        lambda: normalization.ModulatedConv2d(2, 3, latent=4), (3, 4, 4, 2), (3, 4)),
    "MinibatchDeviation": (layers.MinibatchDeviation, (3, 4, 4, 2)),
    "SelfAttention": (lambda: attention.SelfAttention(8), (2, 3, 3, 8)),
    "WordAttention": (
        lambda: WordContext(attention.WordAttention(4, 3)), (2, 3, 3, 3), (2, 5, 4)),
    "LayerNorm": (lambda: normalization.LayerNorm(3), (4, 2, 2, 3)),
    "Dropout": (lambda: layers.Dropout(0.4), (4, 5)),
    "RandomTranslation": (lambda: layers.RandomTranslation(1), (3, 4, 4, 2)),
    "OneHotCode": (lambda: layers.OneHotCode(3), (4, 5)),
    "Flatten": (layers.Flatten, (4, 2, 3)),
    "Reshape": (lambda: layers.Reshape(3, 2), (4, 6)),
    "AddConstant": (lambda: layers.AddConstant(1.0), (4, 3)),
    "Upsample": (lambda: layers.Upsample(2), (2, 3, 3, 2)),
    "InstanceNorm": (normalization.InstanceNorm, (2, 3, 3, 2)),
    "PixelShuffle": (lambda: layers.PixelShuffle(2), (2, 3, 3, 8)),
    "ReLU": (layers.ReLU, (4, 3)),
    "LeakyReLU": (layers.LeakyReLU, (4, 3)),
    "Tanh": (layers.Tanh, (4, 3)),
    "Sequential": (lambda: layers.Sequential(layers.Dense(3, 4), layers.Tanh()), (4, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_its_gradients_and_its_state(name):
    make, *shapes = LAYERS[name]
    arrays = [numpy.array([0, 5, 0]) if shape is None else test_functions.normal(*shape)
              for shape in shapes]

    def computation():
        layer = make()
        parameters = layer.parameters()
        found = values_and_gradients(
            lambda *tensors: layer(*tensors[: len(arrays)]),
            [*map(on_device, arrays), *parameters])
        after = {f"{name} after": array for name, array in layer.state().items()}
        layer.eval()
        return found | after | {"eval": layer(*map(on_device, arrays)).numpy()}

    assert_same_on_both(computation)


def test_every_layer_is_compared():
    public = {name for file in (layers, normalization, attention)
              for name, value in vars(file).items()
              if isinstance(value, type) and issubclass(value, layers.Module)}
    assert public - LAYERS.keys() == {"Module"}


def critic():
    return layers.Sequential(layers.Dense(4, 8), layers.Tanh(), layers.Dense(8, 1))


@pytest.mark.parametrize("name", losses.GAMES)
def test_a_game_and_its_gradients(name):
    def both_losses(real, fake):
        game = losses.GAMES[name]()
        return game.discriminator(real, fake) + 2.0 * game.generator(fake)

    logits = [3 * test_functions.normal(6, 1, seed=seed) for seed in (0, 1)]
    assert_same_on_both(
        lambda: values_and_gradients(both_losses, [on_device(array) for array in logits])
    )


PENALTIES = {
    "gradient_penalty": lambda D, real, fake: losses.gradient_penalty(D, real, fake),
    "r1_penalty": lambda D, real, fake: losses.r1_penalty(D, real),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_and_its_gradient_by_the_weights(name):
    def computation():
        D = critic()
        real, fake = (Tensor(to_device(test_functions.normal(6, 4, seed=i).astype("float32")))
                      for i in (0, 1))
        return values_and_gradients(
            lambda *_: PENALTIES[name](D, real, fake), D.parameters()[:-1]  # not the last bias
        )

    assert_same_on_both(computation)


OPTIMIZERS = {
    "SGD": lambda parameters: optimizers.SGD(parameters, 0.1, momentum=0.9),
    "RMSProp": lambda parameters: optimizers.RMSProp(parameters, 0.01),
    "Adam": lambda parameters: optimizers.Adam(parameters, 0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_a_moving_average_and_clipped_weights(name):
    def computation():
        network = critic()
        optimizer = OPTIMIZERS[name](network.parameters())
        average = optimizers.ExponentialMovingAverage(network)
        x = Tensor(to_device(test_functions.normal(6, 4).astype("float32")))
        for _ in range(3):
            optimizer.zero_grad()
            (network(x) ** 2).mean().backward()
            optimizer.step()
            average.update()
        losses.clip_weights(network, 0.3)
        return network.state() | {
            f"{owner} {name}": array
            for owner, part in (("optimizer", optimizer), ("average", average))
            for name, array in part.state().items() if array.dtype.kind == "f"
        }

    assert_same_on_both(computation)


def test_every_optimizer_is_compared():
    public = {name for name, value in vars(optimizers).items()
              if isinstance(value, type) and issubclass(value, optimizers.Optimizer)}
    assert public - OPTIMIZERS.keys() == {"Optimizer"}


# ---------------------------------------------------------------- mistakes are caught


def gan_step(cuda_on_cpu, seen=lambda loss: None):
    """A step of G and D on CuPy, in which a test can plant a mistake."""
    tinygan.use_device("gpu")
    L = layers
    G = L.Sequential(L.Dense(4, 8), L.LeakyReLU(), L.Dense(8, 16), L.Tanh(), L.Reshape(4, 4, 1))
    D = L.Sequential(L.Conv2d(1, 2, kernel=2, stride=2), L.LeakyReLU(), L.Flatten(), L.Dense(8, 1))
    adam_g, adam_d = (optimizers.Adam(network.parameters(), 1e-3) for network in (G, D))
    real, z = (Tensor(xp.ones(shape, dtype=xp.float32)) for shape in ((6, 4, 4, 1), (6, 4)))
    game = losses.NonSaturating()
    with clean(cuda_on_cpu, copies=0):
        with no_grad():
            fake = G(z)
        d_loss = game.discriminator(D(real), D(fake))
        seen(d_loss)
        adam_d.zero_grad()
        d_loss.backward()
        adam_d.step()
        with D.frozen():
            g_loss = game.generator(D(G(z)))
        adam_g.zero_grad()
        g_loss.backward()
        adam_g.step()


def test_without_a_mistake_the_step_is_clean(cuda_on_cpu):
    gan_step(cuda_on_cpu)


def numpy_in_place_of_xp(x):
    y = numpy.zeros(x.shape, x.dtype)
    y += xp.tanh(x.data)
    return y


def a_numpy_array_mixed_in(x):
    return xp.tanh(x.data * numpy.ones(x.shape[1:], x.dtype))


def a_float64_constant(x):
    return xp.tanh(x.data) * numpy.float64(1.0)


def a_condition_on_the_data(x):
    return xp.tanh(x.data) if (x.data > -1e9).all() else x.data


MISTAKES = {
    numpy_in_place_of_xp: TypeError, a_numpy_array_mixed_in: TypeError,
    a_float64_constant: AssertionError, a_condition_on_the_data: AssertionError,
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_in_a_function_is_caught(mistake, monkeypatch, cuda_on_cpu):
    monkeypatch.setattr(
        functions, "tanh", lambda x: record(mistake(x), (x,), lambda dy, y: dy * (1.0 - y * y))
    )
    with pytest.raises(MISTAKES[mistake]):
        gan_step(cuda_on_cpu)


def test_reading_the_loss_in_the_step_is_caught(cuda_on_cpu):
    with pytest.raises(AssertionError, match="to host"):
        gan_step(cuda_on_cpu, seen=lambda loss: float(loss.data))


def test_sliding_windows_are_caught(monkeypatch, cuda_on_cpu):
    def patches(x, kernel, stride, padding):
        windows = xp.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(1, 2))
        windows = windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)
        n, rows, columns, *_ = windows.shape
        return windows.reshape(n * rows * columns, -1), rows, columns

    monkeypatch.setattr(convolution, "_patches", patches)
    with pytest.raises(AssertionError):
        gan_step(cuda_on_cpu)


# ---------------------------------------------------------------- CuPy as it comes


def test_the_wheel_on_a_machine_without_a_driver_is_one_sentence_and_exit_status_2(tmp_path):
    with contextlib.suppress(OSError):
        ctypes.CDLL("libcuda.so.1")
        pytest.skip("there is a driver")
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, DEMOS / "mnist_gan.py", "--device", "gpu", "--out", tmp_path / "run"],
        capture_output=True, text=True, env=environment,
    )
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert done.stderr == ("error: no NVIDIA driver is installed: install one (then nvidia-smi "
                           "shows the GPU), or use --device cpu\n")


# ---------------------------------------------------------------- CuPy on the CPU itself


def test_kernels_are_compiled_once_and_by_nobody_twice(cuda_on_cpu, monkeypatch, tmp_path):
    monkeypatch.setattr(cuda_on_cpu, "CACHE", tmp_path / "cache")
    source = 'extern "C" int number() { return 7; }\n'
    path = cuda_on_cpu._compile(source, ".so")
    before = path.stat()
    assert cuda_on_cpu._compile(source, ".so") == path and path.stat() == before
    assert os.listdir(tmp_path / "cache") == [path.name]  # nothing is left beside it


def test_what_the_compiler_does_not_take_is_an_error_and_leaves_nothing(
    cuda_on_cpu, monkeypatch, tmp_path
):
    monkeypatch.setattr(cuda_on_cpu, "CACHE", tmp_path / "cache")
    with pytest.raises(RuntimeError, match="no_such_thing"):
        cuda_on_cpu._compile("no_such_thing;", ".so")
    assert os.listdir(tmp_path / "cache") == []


@pytest.mark.parametrize("dtype", ["float16", "complex64"])
def test_kinds_of_numbers_that_it_has_not_are_refused(cuda_on_cpu, dtype):
    tinygan.use_device("gpu")
    with pytest.raises(NotImplementedError, match="has no (float16|complex) numbers"):
        xp.ones(3, dtype=dtype) + 1


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("cuda_on_cpu.find = lambda name: None", "pip install 'tinygan[cupy-on-cpu]'"),
        ("cuda_on_cpu.VERSION = '1.0'", "CuPy 1.0, and 14"),
        ("shutil.which = lambda name: None", "g++"),
    ],
)
def test_what_is_missing_is_one_sentence_and_a_usage_error(cuda_on_cpu, program, words, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        f"import shutil, cuda_on_cpu\n{program}\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(CUPY_ON_CPU)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--device", "cupy-on-cpu", __file__],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert re.match("ERROR: CuPy on the CPU ", line) and words in line
