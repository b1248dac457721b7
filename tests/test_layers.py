"""Layers: what they compute, their weights, their state, and the modes they are in."""

import copy
import hashlib
import math
import os
import subprocess
import sys
from collections import deque
from types import MappingProxyType

import numpy
import pytest

import tinygan
from tinygan import Tensor, check_gradients, grad
from tinygan.attention import SelfAttention, WordAttention
from tinygan.backend import to_device
from tinygan.functions import ShapeError
from tinygan.layers import (
    AddConstant,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    LeakyReLU,
    MinibatchDeviation,
    Module,
    OneHotCode,
    Parameter,
    PixelShuffle,
    RandomTranslation,
    ReLU,
    Reshape,
    Sequential,
    Tanh,
    Upsample,
)
from tinygan.normalization import (
    BatchNorm,
    ConditionalBatchNorm,
    InstanceNorm,
    LayerNorm,
    ModulatedConv2d,
    SpectralNorm,
)
from tinygan.optimizers import SGD, Adam, RMSProp


def normal(*shape, seed=0, dtype="float64"):
    return numpy.random.default_rng(seed).standard_normal(shape).astype(dtype)


def use(layer, *arrays):
    return layer(*[Tensor(array) for array in arrays]).numpy()


class Styled(Module):
    """A modulated convolution whose style is the first pixel of the image."""

    def __init__(self, **options):
        self.convolution = ModulatedConv2d(2, 3, latent=2, **options)

    def forward(self, x):
        return self.convolution(x, x[:, 0, 0])


class Told(Module):
    """A layer that takes a condition beside its input, always the same."""

    def __init__(self, layer, *condition):
        self.layer, self.condition = layer, normal(*condition)

    def forward(self, x):
        return self.layer(x, Tensor(to_device(self.condition.astype(x.dtype))))


class Attending(Told):
    """What the pixels of an image are told by words, always the same; the last is none."""

    def forward(self, x):
        words = Tensor(to_device(self.condition.astype(x.dtype)))
        present = to_device(numpy.array([[True, True, False]] * len(x)))
        return self.layer(x, words, present)[0]


# name: (how to make the layer, an input)
LAYERS = {
    "Dense": (lambda: Dense(4, 3), normal(5, 4)),
    "Dense without bias": (lambda: Dense(4, 3, bias=False), normal(5, 4)),
    "Conv2d": (lambda: Conv2d(2, 3, kernel=3, stride=2, padding=1, scale=0.5), normal(2, 5, 4, 2)),
    "ConvTranspose2d": (lambda: ConvTranspose2d(2, 3, kernel=4, stride=2, padding=1, scale=0.5),
                        normal(2, 3, 2, 2)),
    "BatchNorm": (lambda: BatchNorm(4), normal(6, 4)),
    "BatchNorm of images": (lambda: BatchNorm(2), normal(2, 3, 2, 2)),
    "BatchNorm in eval": (lambda: BatchNorm(4).eval(), normal(6, 4)),
    "ConditionalBatchNorm": (lambda: Told(ConditionalBatchNorm(4, 2), 6, 2), normal(6, 4)),
    "ConditionalBatchNorm of images": (lambda: Told(ConditionalBatchNorm(2, 3), 2, 3),
                                       normal(2, 3, 2, 2)),
    "SpectralNorm in eval": (lambda: SpectralNorm(Dense(4, 3)).eval(), normal(5, 4)),
    "SelfAttention": (lambda: SelfAttention(4), normal(2, 2, 3, 4)),
    "WordAttention": (lambda: Attending(WordAttention(5, 4), 2, 3, 5), normal(2, 2, 3, 4)),
    "LayerNorm": (lambda: LayerNorm(4), normal(5, 4)),
    "LayerNorm of images": (lambda: LayerNorm(2), normal(2, 3, 2, 2)),
    "InstanceNorm": (InstanceNorm, normal(2, 3, 2, 2)),
    "ModulatedConv2d": (Styled, normal(2, 3, 2, 2)),
    "ModulatedConv2d to colours": (lambda: Styled(kernel=1, demodulate=False), normal(2, 3, 2, 2)),
    "MinibatchDeviation": (MinibatchDeviation, normal(3, 2, 2, 2)),
    "Embedding": (lambda: Embedding(5, 3), numpy.array([1, 4, 1])),
    "Dropout": (lambda: Dropout(0.5), normal(5, 4)),
    "RandomTranslation": (lambda: RandomTranslation(1), normal(3, 4, 3, 2)),
    "OneHotCode": (lambda: OneHotCode(3), normal(5, 4)),
    "Flatten": (Flatten, normal(2, 3, 2, 2)),
    "Reshape": (lambda: Reshape(2, 3, 2), normal(2, 12)),
    "AddConstant": (lambda: AddConstant(1.0), normal(5, 4)),
    "Upsample": (Upsample, normal(2, 3, 2, 2)),
    "PixelShuffle": (PixelShuffle, normal(2, 3, 2, 8)),
    "ReLU": (ReLU, normal(5, 4)),
    "LeakyReLU": (LeakyReLU, normal(5, 4)),
    "Tanh": (Tanh, normal(5, 4)),
}
layers = pytest.mark.parametrize("name", LAYERS)
DRAWING = ("Dropout", "RandomTranslation")  # random numbers, at every call


def test_every_layer_has_a_case():
    public = {
        name
        for file in (tinygan.layers, tinygan.normalization, tinygan.attention)
        for name, value in vars(file).items()
        if isinstance(value, type) and issubclass(value, Module)
    }
    assert public - {name.partition(" ")[0] for name in LAYERS} == {"Module", "Sequential"}


# ---------------------------------------------------------------- numbers of every layer


@layers
@pytest.mark.parametrize("optimizer", [SGD, RMSProp, Adam])
def test_float32_stays_float32_through_a_step(name, optimizer):
    make, array = LAYERS[name]
    layer = make()
    if array.dtype == "float64":
        x = Tensor(array.astype("float32"), requires_grad=True)
    else:
        x = Tensor(array)
    y = layer(x)
    (y * y).mean().backward()
    assert y.dtype == "float32"
    assert not x.requires_grad or x.grad.dtype == "float32"
    assert [p.grad.dtype for p in layer.parameters()] == ["float32"] * len(layer.parameters())
    if layer.parameters():
        chosen = optimizer(layer.parameters(), 1e-3)
        chosen.step()
        memories = {array.dtype for key, array in chosen.state().items() if key != "steps"}
        assert memories == {numpy.dtype("float32")}
    assert {array.dtype for array in layer.state().values()} <= {numpy.dtype("float32")}


@layers
def test_gradients_to_second_order_by_input_and_weights(name):
    make, array = LAYERS[name]
    layer = make()
    for parameter in layer.parameters():  # away from ones and zeros, which hide mistakes
        parameter.data[...] = to_device(normal(*parameter.shape, seed=3))
    if name in DRAWING:
        check_gradients(lambda x: tinygan.seed(1) or layer(x), array)
    else:
        check_gradients(layer, array)


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in (*DRAWING, "Embedding")])
def test_third_derivatives_by_the_input(name):
    make, array = LAYERS[name]
    layer = make()

    def slopes(x):
        return grad((layer(x) ** 3).sum(), [x], create_graph=True)[0]

    check_gradients(slopes, array)


@layers
def test_a_tape_that_is_walked_again_answers_for_the_new_gradient(name):
    make, array = LAYERS[name]
    layer = make()
    x = Tensor(array, requires_grad=array.dtype == "float64")
    y = layer(x)
    v = normal(*y.shape, seed=1)
    inputs = [tensor for tensor in [x, *layer.parameters()] if tensor.requires_grad]
    once, twice = (
        grad((y * Tensor(v * factor)).sum(), inputs, create_graph=True) for factor in (1, 2)
    )
    for a, b in zip(once, twice, strict=True):
        numpy.testing.assert_allclose(b.numpy(), 2 * a.numpy(), rtol=1e-5, atol=1e-6)


@layers
def test_float64_stays_float64(name):
    make, array = LAYERS[name]
    layer = make()
    for tensor in layer.named_tensors().values():
        tensor.data = tensor.data.astype("float64")
    x = Tensor(array, requires_grad=array.dtype == "float64")
    y = layer(x)
    y.sum().backward()
    assert y.dtype == "float64"
    assert {p.grad.dtype for p in layer.parameters()} <= {numpy.dtype("float64")}
    assert {array.dtype for array in layer.state().values()} <= {numpy.dtype("float64")}


# ---------------------------------------------------------------- values


def test_dense_is_a_product_and_a_shift():
    layer, x = Dense(4, 3), normal(5, 4)
    layer.bias.data[...] = to_device(normal(3, seed=1))
    expected = x @ layer.weight.numpy() + layer.bias.numpy()
    numpy.testing.assert_allclose(use(layer, x), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [Conv2d, ConvTranspose2d])
def test_convolutions_add_their_bias_to_every_pixel(kind):
    layer, x = kind(2, 3, kernel=4, stride=2, padding=1), normal(2, 6, 4, 2)
    before = use(layer, x)
    layer.bias.data[...] = to_device(numpy.array([1.0, 2.0, 3.0]))
    numpy.testing.assert_allclose(use(layer, x) - before, before * 0 + [1, 2, 3], rtol=1e-6)


def test_kernel_4_stride_2_padding_1_halves_and_doubles():
    down = Conv2d(2, 3, kernel=4, stride=2, padding=1)
    up = ConvTranspose2d(3, 2, kernel=4, stride=2, padding=1)
    half = use(down, normal(1, 6, 8, 2))
    assert half.shape == (1, 3, 4, 3) and use(up, half).shape == (1, 6, 8, 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Dense(3, 4, bias=False),
        lambda: Conv2d(3, 4, kernel=2, bias=False),
        lambda: ConvTranspose2d(3, 4, kernel=2, bias=False),
    ],
)
def test_without_a_bias_there_is_one_parameter(make):
    assert list(make().named_parameters()) == ["weight"]


def test_an_embedding_gives_a_row_for_each_integer():
    layer = Embedding(5, 3)
    indices = numpy.array([3, 0, 3], "uint8")
    assert numpy.array_equal(use(layer, indices), layer.weight.numpy()[[3, 0, 3]])
    assert numpy.array_equal(layer(to_device(indices)).numpy(), use(layer, indices))


def test_rows_that_an_embedding_gave_twice_get_both_gradients():
    layer = Embedding(4, 2)
    (layer(numpy.array([3, 0, 3])) * Tensor([[1.0], [2.0], [4.0]])).sum().backward()
    assert layer.weight.grad.numpy().tolist() == [[2, 2], [0, 0], [0, 0], [5, 5]]


@pytest.mark.parametrize("row", [7, -1])
def test_an_embedding_without_such_a_row_names_it(row):
    with pytest.raises(ValueError, match=f"Embedding: labels are from 0 to 3, not {row}"):
        Embedding(4, 2)(numpy.array([0, row]))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_upsample_repeats_every_pixel(factor):
    x = normal(2, 3, 2, 2)
    expected = x.repeat(factor, axis=1).repeat(factor, axis=2)
    assert numpy.array_equal(use(Upsample(factor), x), expected)


def test_pixel_shuffle_moves_every_number_to_its_place():
    """Shi et al. 2016, eq. 4, and a permutation: every number is there once."""
    n, height, width, f, channels = 2, 3, 2, 3, 4
    x = numpy.arange(n * height * width * f * f * channels, dtype="float32")
    x = x.reshape(n, height, width, f * f * channels)
    y = use(PixelShuffle(f), x)
    assert y.shape == (n, f * height, f * width, channels)
    assert sorted(y.ravel()) == [*x.ravel()]
    for place in numpy.ndindex(y.shape):
        image, i, j, c = place
        assert y[place] == x[image, i // f, j // f, (i % f * f + j % f) * channels + c]


def test_channels_that_are_no_pixels_are_an_error():
    with pytest.raises(ShapeError, match=r"PixelShuffle\(2\): 6 channels are not 4 C"):
        use(PixelShuffle(2), normal(1, 2, 2, 6))


def test_flatten_and_reshape_undo_each_other():
    x = normal(2, 3, 4, 5)
    flat = use(Flatten(), x)
    assert flat.shape == (2, 60) and numpy.array_equal(use(Reshape(3, 4, 5), flat), x)


def test_an_empty_batch_keeps_its_features():
    assert use(Flatten(), numpy.zeros((0, 3, 4))).shape == (0, 12)
    assert use(Reshape(3, 4), numpy.zeros((0, 12))).shape == (0, 3, 4)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (ReLU(), [0, 0, 3]),
        (LeakyReLU(), [-0.4, 0, 3]),
        (LeakyReLU(0.1), [-0.2, 0, 3]),
        (Tanh(), numpy.tanh([-2, 0, 3])),
    ],
)
def test_activations(layer, expected):
    numpy.testing.assert_allclose(use(layer, numpy.array([-2.0, 0, 3])), expected, rtol=1e-14)


def test_sequential_is_one_layer_after_the_other():
    first, second, x = Dense(4, 3), Dense(3, 2), normal(5, 4)
    expected = use(second, numpy.tanh(use(first, x)))
    numpy.testing.assert_allclose(use(Sequential(first, Tanh(), second), x), expected, rtol=1e-12)


# ---------------------------------------------------------------- Dropout


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(rate):
    y = use(Dropout(rate), numpy.ones((1000, 100)))
    kept = y[y != 0]
    numpy.testing.assert_allclose(kept, 1 / (1 - rate), rtol=1e-12)
    error = (rate * (1 - rate) / y.size) ** 0.5  # standard error of the share that is dropped
    assert abs((y == 0).mean() - rate) < 5 * error
    assert abs(y.mean() - 1) < 5 * error / (1 - rate)


def test_dropout_draws_anew_each_time():
    layer, x = Dropout(0.5), numpy.ones((10, 10))
    assert not numpy.array_equal(use(layer, x), use(layer, x))


@pytest.mark.parametrize("layer", [Dropout(0.5).eval(), Dropout(0.0)])
def test_dropout_at_rest_changes_nothing(layer):
    x = normal(5, 4)
    assert numpy.array_equal(use(layer, x), x)


def test_what_dropout_drops_gets_no_gradient():
    x = Tensor(numpy.ones((4, 5)), requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert numpy.array_equal(x.grad.numpy(), y.numpy()) and (y.numpy() == 0).any()


@pytest.mark.parametrize("rate", [-0.1, 1, 2])
def test_a_rate_that_is_no_share_is_an_error(rate):
    with pytest.raises(ValueError, match=f"rate is from 0 to below 1, not {rate}"):
        Dropout(rate)


# ---------------------------------------------------------------- translations and codes


def test_every_translation_up_to_max_shift_occurs_equally_often():
    images = numpy.zeros((9000, 5, 5, 1))
    images[:, 2, 2] = 1
    y = use(RandomTranslation(1), images)
    assert (y.sum(axis=(1, 2, 3)) == 1).all()  # moved, and nothing else
    share = y.mean(axis=0)[:, :, 0]
    assert (share[[0, 4]] == 0).all() and (share[:, [0, 4]] == 0).all()
    numpy.testing.assert_allclose(share[1:4, 1:4], 1 / 9, atol=0.012)


@pytest.mark.parametrize("layer", [RandomTranslation(2).eval(), RandomTranslation(0)])
def test_a_translation_at_rest_changes_nothing(layer):
    images = normal(3, 5, 5, 1)
    numpy.testing.assert_array_equal(use(layer, images), images)


def test_noise_becomes_one_of_equally_likely_codes_of_its_size():
    noise = normal(30_000, 8)
    y = use(OneHotCode(5), noise)
    assert ((y[:, :5] > 0).sum(axis=1) == 1).all()
    assert (y[:, :5].argmax(axis=1) == noise[:, :5].argmax(axis=1)).all()
    numpy.testing.assert_allclose((y[:, :5] ** 2).mean(axis=0), 1, atol=0.05)
    numpy.testing.assert_array_equal(y[:, 5:], noise[:, 5:])


# ---------------------------------------------------------------- weights at the start


@pytest.mark.parametrize(
    ("make", "spread"),
    [
        (lambda: Dense(200, 300), 1 / math.sqrt(200)),
        (lambda: Dense(200, 300, scale=0.02), 0.02),
        (lambda: Conv2d(50, 60, kernel=4), 0.02),
        (lambda: Conv2d(50, 60, kernel=4, scale=0.1), 0.1),
        (lambda: ConvTranspose2d(50, 60, kernel=4), 0.02),
        (lambda: Embedding(200, 300), 1.0),
    ],
)
def test_weights_start_from_their_normal_distribution(make, spread):
    weight = make().weight.numpy()
    assert abs(weight.mean()) < 5 * spread / weight.size**0.5
    assert abs(weight.std() / spread - 1) < 5 / (2 * weight.size) ** 0.5
    assert abs((numpy.abs(weight) < spread).mean() - 0.6827) < 5 * (0.217 / weight.size) ** 0.5


def test_biases_start_at_zero_and_scales_at_one():
    for layer in (Dense(3, 4), Conv2d(3, 4, kernel=2), ConvTranspose2d(3, 4, kernel=2)):
        assert layer.bias.numpy().tolist() == [0] * 4
    for layer in (BatchNorm(2), LayerNorm(2)):
        assert layer.scale.numpy().tolist() == [1, 1] and layer.shift.numpy().tolist() == [0, 0]


def test_through_dense_layers_outputs_stay_as_large_as_inputs():
    network = Sequential(*[Dense(400, 300) if i % 2 else Dense(300, 400) for i in range(10)])
    x = normal(100, 300, dtype="float32")
    ratio = (use(network, x) ** 2).mean() / (x**2).mean()  # 2^10 with twice the variance
    assert 0.3 < ratio < 3


def network_of_all_kinds():
    return Sequential(
        Embedding(9, 8), Reshape(2, 2, 2), ConvTranspose2d(2, 3, kernel=4, stride=2, padding=1),
        BatchNorm(3), ReLU(), Conv2d(3, 2, kernel=3, padding=1), LayerNorm(2), LeakyReLU(),
        Flatten(), Dropout(0.3), Dense(32, 1),
    )


NAMES = [
    "layers.0.weight",
    "layers.2.weight", "layers.2.bias",
    "layers.3.scale", "layers.3.shift",
    "layers.5.weight", "layers.5.bias",
    "layers.6.scale", "layers.6.shift",
    "layers.10.weight", "layers.10.bias",
]
STATISTICS = ["layers.3.running_mean", "layers.3.running_variance"]


def digest(network):
    whole = hashlib.sha256()
    for name, array in network.state().items():
        whole.update(name.encode() + array.tobytes())
    return whole.hexdigest()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first = digest(network_of_all_kinds())
    tinygan.seed(0)
    assert digest(network_of_all_kinds()) == first
    tinygan.seed(1)
    assert digest(network_of_all_kinds()) != first


@pytest.mark.parametrize("hash_seed", ["1", "12345"])
def test_the_same_seed_gives_the_same_weights_in_every_process(hash_seed, request):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import tinygan, test_layers\n"
        "tinygan.use_device(sys.argv[2])\n"
        "tinygan.seed(0)\n"
        "print(test_layers.digest(test_layers.network_of_all_kinds()))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(request.path.parent), tinygan.device()],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True, text=True, check=True,
    )
    assert answer.stdout.strip() == digest(network_of_all_kinds())


# ---------------------------------------------------------------- Module


class Mixed(Module):
    """Parameters and layers in turn, as a reader may write them."""

    def __init__(self):
        self.first = Parameter(numpy.zeros(1, "float32"))
        self.body = Sequential(Dense(2, 3), Dense(3, 2))
        self.second = Parameter(numpy.zeros(1, "float32"))
        self.heads = (Dense(2, 1, bias=False), Dense(2, 1, bias=False))
        self.shifts = [Parameter(numpy.zeros(1, "float32")) for _ in range(2)]


def test_parameters_are_those_of_all_layers_in_their_order():
    network = network_of_all_kinds()
    assert list(network.named_parameters()) == NAMES
    expected = [p for layer in network.layers for p in layer.parameters()]
    assert all(a is b for a, b in zip(network.parameters(), expected, strict=True))
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_parameters_keep_the_order_of_definition_beside_layers():
    assert list(Mixed().named_parameters()) == [
        "first", "body.layers.0.weight", "body.layers.0.bias", "body.layers.1.weight",
        "body.layers.1.bias", "second", "heads.0.weight", "heads.1.weight",
        "shifts.0", "shifts.1",
    ]


class Nested(Module):
    """Layers wherever Python keeps things in order."""

    def __init__(self):
        self.heads = {"left": Dense(2, 1, bias=False), "right": [Dense(2, 1, bias=False)]}
        self.layers = [[Dense(2, 2), (Dropout(), BatchNorm(2))], {"deep": {"er": (Dense(2, 2),)}}]
        self.shifts = {"a": Parameter(numpy.ones(1, "float32")), "note": "no layer", "n": [1, 2]}
        self.seen = Tensor(0)

    def forward(self, x):
        x = self.layers[0][1][1](self.layers[0][1][0](self.layers[0][0](x)))
        x = self.layers[1]["deep"]["er"][0](x)
        return self.heads["left"](x) + self.heads["right"][0](x) + self.shifts["a"]


def test_layers_in_dicts_and_nested_lists_are_found():
    network = Nested()
    assert list(network.named_parameters()) == [
        "heads.left.weight", "heads.right.0.weight", "layers.0.0.weight", "layers.0.0.bias",
        "layers.0.1.1.scale", "layers.0.1.1.shift", "layers.1.deep.er.0.weight",
        "layers.1.deep.er.0.bias", "shifts.a",
    ]
    assert set(network.state()) - set(network.named_parameters()) == {
        "layers.0.1.1.running_mean", "layers.0.1.1.running_variance", "seen",
    }
    assert len(list(network.modules())) == 7
    network.eval()
    assert not network.layers[0][1][0].training and not network.layers[0][1][1].training
    assert "  layers.0.1.1: BatchNorm scale (2,), shift (2,)" in repr(network)


def test_layers_in_dicts_and_nested_lists_learn_and_are_loaded():
    network, x = Nested(), Tensor(normal(5, 2, dtype="float32"))
    before = network.state()
    adam = Adam(network.parameters(), 0.1)
    (network(x) ** 2).mean().backward()
    adam.step()
    moved = {name for name, array in network.state().items() if (array != before[name]).any()}
    assert set(network.named_parameters()) - moved <= {"layers.0.0.bias"}  # BatchNorm follows
    network.load_state(before)
    assert all(numpy.array_equal(array, before[name]) for name, array in network.state().items())
    with network.frozen():
        assert not network(x).requires_grad


def test_layers_in_a_deque_or_a_read_only_dict_are_found():
    network = Sequential()
    network.last, network.heads = deque([Dense(2, 1)]), MappingProxyType({"a": Dense(2, 1)})
    assert [*network.named_parameters()] == [
        "last.0.weight", "last.0.bias", "heads.a.weight", "heads.a.bias"]


@pytest.mark.parametrize("hide", [
    set, frozenset, lambda layers: dict(enumerate(layers)).values(),
    lambda layers: numpy.array(layers, dtype=object),
])
def test_layers_where_none_would_be_found_are_refused(hide):
    network = Sequential()
    network.heads = hide([Dense(2, 1), Dense(2, 1)])
    with pytest.raises(TypeError, match="heads: keep layers in a list or a dict, not in a"):
        network.parameters()


def test_a_module_that_leads_back_to_itself_is_walked_once():
    parent = Sequential(Dense(2, 3), Sequential(Dense(3, 1)))
    parent.layers[1].parent = parent.itself = parent
    assert list(parent.named_parameters()) == [
        "layers.0.weight", "layers.0.bias", "layers.1.layers.0.weight", "layers.1.layers.0.bias",
    ]
    assert len(list(parent.eval().modules())) == 4 and repr(parent).endswith("\n13 weights")
    assert copy.deepcopy(parent).itself is not parent


def test_numbers_below_0_are_state_too():
    network = Sequential()
    network.last = Tensor(numpy.array([-1, 5]))
    network.load_state(network.state())
    assert network.last.numpy().tolist() == [-1, 5]


@pytest.mark.parametrize("integer", [numpy.int64, numpy.int32, numpy.uint8])
def test_integers_of_numpy_are_sizes(integer):
    images = Tensor(normal(2, 8, 8, 3, dtype="float32"), requires_grad=True)
    sizes = {"kernel": integer(4), "stride": integer(2), "padding": integer(1)}
    for layer, x, shape in [
        (Dense(integer(200), integer(100)), Tensor(normal(2, 200)), (2, 100)),
        (Conv2d(integer(3), integer(200), **sizes), images, (2, 4, 4, 200)),
        (ConvTranspose2d(integer(3), integer(5), **sizes), images, (2, 16, 16, 5)),
        (BatchNorm(integer(3)), images, images.shape),
        (LayerNorm(integer(3)), images, images.shape),
        (Reshape(integer(64), integer(3)), images, (2, 64, 3)),
        (Upsample(integer(2)), images, (2, 16, 16, 3)),
        (RandomTranslation(integer(2)), images, images.shape),
        (OneHotCode(integer(2)), Tensor(normal(3, 4)), (3, 4)),
        (Embedding(integer(4), integer(200)), numpy.array([1]), (1, 200)),
    ]:
        y = layer(x)
        assert y.shape == shape
        if y.requires_grad:
            y.sum().backward()


@pytest.mark.parametrize("kind", [Conv2d, ConvTranspose2d])
def test_half_a_stride_is_an_error(kind):
    with pytest.raises(TypeError, match="float"):
        kind(1, 1, kernel=3, stride=1.5)


def test_running_statistics_belong_to_the_state_but_no_optimizer_moves_them():
    network = network_of_all_kinds()
    assert set(network.state()) == set(NAMES + STATISTICS)
    assert not set(network.named_parameters()) & set(STATISTICS)


def test_train_and_eval_reach_every_layer():
    network = Sequential(Sequential(Dropout()), BatchNorm(2))
    inner = [network, network.layers[0], network.layers[0].layers[0], network.layers[1]]
    assert all(module.training for module in inner)
    assert network.eval() is network and not any(module.training for module in inner)
    assert network.train() is network and all(module.training for module in inner)


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Mixed has no forward"):
        Mixed()(Tensor(1.0))


def test_state_goes_into_another_network_and_gives_the_same_answers():
    tinygan.seed(1)
    source, x = network_of_all_kinds(), numpy.array([1, 5, 8])
    source(x)  # moves the running statistics
    target = network_of_all_kinds()
    target.load_state(source.state())
    assert digest(target) == digest(source)
    assert numpy.array_equal(target.eval()(x).numpy(), source.eval()(x).numpy())


def test_state_is_a_copy():
    layer = Dense(2, 3)
    state = layer.state()
    state["weight"][...] = 7
    assert not (layer.weight.numpy() == 7).any()
    layer.load_state(state)
    state["weight"][...] = 8
    assert (layer.weight.numpy() == 7).all()


def test_load_state_keeps_the_tensors_that_an_optimizer_holds():
    layer = Dense(2, 3)
    held = layer.weight
    layer.load_state({"weight": numpy.full((2, 3), 7, "float32"), "bias": layer.bias.numpy()})
    assert held is layer.weight and (held.numpy() == 7).all()


def without(name):
    return lambda state: {key: array for key, array in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("layers.1.scale"), r"needs an array 'layers\.1\.scale', which is missing"),
        (without("layers.1.running_mean"), r"needs an array 'layers\.1\.running_mean'"),
        (lambda state: state | {"more": numpy.zeros(1)}, "has no array 'more', which was given"),
        (lambda state: state | {"layers.0.bias": numpy.zeros(4, "float32")},
         r"'layers\.0\.bias' is float32 of shape \(4,\), but float32 of shape \(3,\) was expected"),
        (lambda state: state | {"layers.0.bias": numpy.zeros((1, 3), "float32")}, r"\(1, 3\)"),
        (lambda state: state | {"layers.0.bias": numpy.zeros(3)},
         "'layers.0.bias' is float64 .*, but float32 .* was expected"),
    ],
)
def test_a_state_that_does_not_fit_names_the_array_and_changes_nothing(change, message):
    network = Sequential(Dense(2, 3), BatchNorm(3))
    before = digest(network)
    other = {name: array + 1 for name, array in network.state().items()}
    with pytest.raises(ValueError, match=f"Sequential.*{message}"):
        network.load_state(change(other))
    assert digest(network) == before


def test_the_first_array_that_does_not_fit_is_named():
    network = Sequential(Dense(2, 3), Dense(3, 4))
    wrong = {name: numpy.zeros(9, "float32") for name in network.state()}
    with pytest.raises(ValueError, match=r"'layers\.0\.weight'"):
        network.load_state(wrong)


# ---------------------------------------------------------------- what print(network) shows


def test_repr_names_layers_shapes_and_the_number_of_weights():
    network = Sequential(Dense(3, 400), Sequential(BatchNorm(400), Tanh()), Dense(400, 1))
    assert repr(network) == """\
Sequential
  layers.0: Dense weight (3, 400), bias (400,)
  layers.1: Sequential
    layers.0: BatchNorm scale (400,), shift (400,)
    layers.1: Tanh
  layers.2: Dense weight (400, 1), bias (1,)
2,801 weights"""


def test_repr_counts_a_layer_that_is_used_twice_once():
    layer = Dense(3, 3)
    assert repr(Sequential(layer, ReLU(), layer)).endswith("\n12 weights")


def test_repr_of_a_layer_without_weights():
    assert repr(Flatten()) == "Flatten\n0 weights"


# ---------------------------------------------------------------- frozen


def test_frozen_weights_get_no_gradient_but_pass_it_on():
    network, x = Sequential(Dense(3, 4), Tanh(), Dense(4, 1)), normal(5, 3)
    before = Tensor(x, requires_grad=True)
    network(before).sum().backward()
    SGD(network.parameters(), 0.1).zero_grad()
    through = Tensor(x, requires_grad=True)
    with network.frozen():
        loss = network(through).sum()
    loss.backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert numpy.array_equal(through.grad.numpy(), before.grad.numpy())


def test_after_frozen_weights_learn_again_even_after_an_error():
    network = Dense(3, 1)
    with pytest.raises(KeyError), network.frozen():
        raise KeyError
    network(Tensor(normal(5, 3))).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_frozen_within_frozen_ends_with_the_outer_one():
    network = Dense(3, 1)
    with network.frozen():
        with network.frozen():
            pass
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_gradient_penalty_goes_through_a_frozen_network():
    network = Sequential(Dense(3, 4), Tanh(), Dense(4, 1))
    x = Tensor(normal(5, 3), requires_grad=True)
    with network.frozen():
        (slopes,) = grad(network(x).sum(), [x], create_graph=True)
        (slopes * slopes).sum().backward()
    assert x.grad.numpy().any() and network.layers[0].weight.grad is None


def test_a_layer_that_is_used_twice_is_one_layer_to_the_optimizer():
    layer = Dense(3, 3)
    network = Sequential(layer, ReLU(), layer)
    assert network.parameters() == [layer.weight, layer.bias]


def test_the_minibatch_deviation_is_a_channel_that_says_how_much_a_batch_varies():
    x = normal(4, 2, 3, 2)
    y = use(MinibatchDeviation(), x)
    numpy.testing.assert_array_equal(y[..., :2], x)
    numpy.testing.assert_allclose(y[..., 2], x.std(axis=0).mean(), rtol=1e-6)
    assert abs(use(MinibatchDeviation(), numpy.repeat(x[:1], 4, axis=0))[..., 2]).max() < 1e-3
