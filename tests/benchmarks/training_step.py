"""The time of one GAN step, tinygan beside PyTorch eager on the CPU, in one interleaved run.

    pip install -e '.[bench]'
    python tests/benchmarks/training_step.py            # all workloads
    python tests/benchmarks/training_step.py W1 W2 --rounds 60
    python tests/benchmarks/training_step.py W1 W2 --launches   # what a GPU would be asked to do

A step is D's update on a real and a generated batch, then G's. Networks, initial weights,
data and optimizer (Adam, 2e-4, betas 0.5 and 0.999) are equal; before the clock starts, both
make one step of plain gradient descent, and losses and all weights must agree.

PyTorch runs twice: "default" as the tutorials write it, and "best" with its fused Adam, D's
weights frozen in G's step, and images in channels_last.
"""

import argparse
import cProfile
import ctypes
import math
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy

import tinygan
from tinygan import Tensor, backend, convolution, functions, layers, no_grad, normalization
from tinygan.backend import matrix_product
from tinygan.files import UsageError
from tinygan.losses import NonSaturating
from tinygan.normalization import BatchNorm
from tinygan.optimizers import SGD, Adam

BATCH = 64
LR = 2e-4
GAME = NonSaturating()
L = layers


def dense_networks(widths_g: list[int], widths_d: list[int]) -> tuple[L.Sequential, L.Sequential]:
    def network(widths: list[int], last: list[L.Module]) -> L.Sequential:
        parts: list[L.Module] = []
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            parts += [L.Dense(inputs, outputs), L.LeakyReLU(0.2)]
        return L.Sequential(*parts[:-1], *last)

    return network(widths_g, [L.Tanh()]), network(widths_d, [])


def dcgan_networks(
    size: int, widths: list[int], channels: int
) -> tuple[L.Sequential, L.Sequential]:
    """widths from the image inwards: [64, 128] is 28x28 -> 14x14x64 -> 7x7x128."""
    inner = size // 2 ** len(widths)
    doubling = {"kernel": 4, "stride": 2, "padding": 1}
    # No bias where BatchNorm follows, which takes any constant away again.
    g: list[L.Module] = [
        L.Dense(100, inner * inner * widths[-1], bias=False, scale=0.02),
        L.Reshape(inner, inner, widths[-1]), BatchNorm(widths[-1]), L.ReLU(),
    ]
    for inputs, outputs in zip(widths[::-1], widths[-2::-1], strict=False):
        g += [L.ConvTranspose2d(inputs, outputs, bias=False, **doubling),
              BatchNorm(outputs), L.ReLU()]
    g += [L.ConvTranspose2d(widths[0], channels, **doubling), L.Tanh()]
    d: list[L.Module] = [L.Conv2d(channels, widths[0], **doubling), L.LeakyReLU(0.2)]
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        d += [L.Conv2d(inputs, outputs, bias=False, **doubling),
              BatchNorm(outputs), L.LeakyReLU(0.2)]
    d += [L.Flatten(), L.Dense(inner * inner * widths[-1], 1, scale=0.02)]
    return L.Sequential(*g), L.Sequential(*d)


class Workload(NamedTuple):
    title: str
    networks: Callable[[], tuple[L.Sequential, L.Sequential]]
    example: tuple[int, ...]  # the shape of one real example
    inner: tuple[int, ...] = ()  # of the smallest images (H, W, C), which a dense layer meets


WORKLOADS = {
    "demo": Workload("demos/mnist_gan.py, G 16-256-512-784, D 784-512-256-1",
                     lambda: dense_networks([16, 256, 512, 784], [784, 512, 256, 1]), (784,)),
    "W0": Workload("toy, G 100-128-128-2, D 2-128-128-1",
                   lambda: dense_networks([100, 128, 128, 2], [2, 128, 128, 1]), (2,)),
    "W1": Workload("dense, G 100-256-512-1024-784, D 784-512-256-1",
                   lambda: dense_networks([100, 256, 512, 1024, 784], [784, 512, 256, 1]), (784,)),
    "W2": Workload("DCGAN 28x28, 64-128 channels",
                   lambda: dcgan_networks(28, [64, 128], 1), (28, 28, 1), (7, 7, 128)),
    "W3": Workload("DCGAN 32x32x3, 64-128-256 channels",
                   lambda: dcgan_networks(32, [64, 128, 256], 3), (32, 32, 3), (4, 4, 256)),
}

# ---------------------------------------------------------------- tinygan


def tinygan_step(
    G: L.Sequential, D: L.Sequential, optimizer: type = Adam, lr: float = LR
) -> Callable:
    adam_g, adam_d = optimizer(G.parameters(), lr), optimizer(D.parameters(), lr)

    def step(real: numpy.ndarray, z1: numpy.ndarray, z2: numpy.ndarray) -> tuple[Tensor, Tensor]:
        with no_grad():
            fake = G(Tensor(z1))
        d_loss = GAME.discriminator(D(Tensor(real)), D(fake))
        adam_d.zero_grad()
        d_loss.backward()
        adam_d.step()
        with D.frozen():
            g_loss = GAME.generator(D(G(Tensor(z2))))
        adam_g.zero_grad()
        g_loss.backward()
        adam_g.step()
        return d_loss, g_loss

    return step


# ---------------------------------------------------------------- PyTorch


def torch_twin(network: L.Sequential, inner: tuple[int, ...]) -> Any:
    """The same network in PyTorch, with the same weights, where images are (N, C, H, W)."""
    from torch import nn

    parts = []
    for layer in network.layers:
        match layer:
            case L.Dense():
                part = nn.Linear(*layer.weight.shape, bias=layer.bias is not None)
            case L.Conv2d():
                _, _, inputs, outputs = layer.weight.shape
                part = nn.Conv2d(inputs, outputs, 4, layer.stride, layer.padding,
                                 bias=layer.bias is not None)
            case L.ConvTranspose2d():
                _, _, outputs, inputs = layer.weight.shape
                part = nn.ConvTranspose2d(inputs, outputs, 4, layer.stride, layer.padding,
                                 bias=layer.bias is not None)
            case normalization.BatchNorm():
                part = nn.BatchNorm2d(len(layer.scale))
            case L.Reshape():
                part = nn.Unflatten(1, (inner[2], *inner[:2]))
            case L.LeakyReLU():
                part = nn.LeakyReLU(layer.slope)
            case L.ReLU() | L.Tanh() | L.Flatten():
                part = getattr(nn, type(layer).__name__)()
        parts.append(part)
    twin = nn.Sequential(*parts)
    load_weights(twin, weights_for_torch(network, inner))
    return twin


def weights_for_torch(network: L.Sequential, inner: tuple[int, ...]) -> list[numpy.ndarray]:
    """Every parameter of ours, with its axes and its pixels in PyTorch's order."""
    arrays = []
    pixels = math.prod(inner)
    channels_first = numpy.arange(pixels).reshape(inner).transpose(2, 0, 1).reshape(-1) \
        if inner else None
    for parameter in network.parameters():
        array = parameter.numpy()
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        if inner and array.shape[-1] == pixels:  # what G's dense layer makes
            array = array[..., channels_first]
        if inner and array.ndim == 2 and array.shape[0] == pixels:  # what D's dense layer sees
            array = array[channels_first]
        arrays.append(array.T if array.ndim == 2 else array)
    return arrays


def load_weights(twin: Any, arrays: list[numpy.ndarray]) -> None:
    import torch

    with torch.no_grad():
        for parameter, array in zip(twin.parameters(), arrays, strict=True):
            parameter.copy_(torch.from_numpy(numpy.ascontiguousarray(array)))


def torch_step(G: Any, D: Any, optimizers: tuple[Any, Any], best: bool) -> Callable:
    import torch
    from torch.nn.functional import softplus

    adam_g, adam_d = optimizers

    def step(real: Any, z1: Any, z2: Any) -> tuple[Any, Any]:
        with torch.no_grad():
            fake = G(z1)
        d_loss = softplus(-D(real)).mean() + softplus(D(fake)).mean()
        adam_d.zero_grad()
        d_loss.backward()
        adam_d.step()
        if best:
            D.requires_grad_(False)
        g_loss = softplus(-D(G(z2))).mean()
        adam_g.zero_grad()
        g_loss.backward()
        adam_g.step()
        if best:
            D.requires_grad_(True)
        return d_loss, g_loss

    return step


def torch_batch(arrays: tuple[numpy.ndarray, ...], best: bool) -> list[Any]:
    import torch

    real, z1, z2 = (torch.from_numpy(array) for array in arrays)
    if real.ndim == 4:
        real = real.permute(0, 3, 1, 2)
        real = real.contiguous(memory_format=torch.channels_last) if best else real.contiguous()
    return [real, z1, z2]


# ---------------------------------------------------------------- DeZero


def dezero_step(
    networks: tuple[L.Sequential, L.Sequential], inner: tuple[int, ...], our_weights: bool
) -> Callable:
    """The same step in DeZero 0.0.13, a framework of the same kind: NumPy, written to be read.

    Its own initial weights are float64 on NumPy 2, and so is all that follows from them; with
    our_weights it computes in float32.
    """
    numpy.__dict__["int"] = int  # which it still asks for, and NumPy dropped
    import dezero.functions as F
    import dezero.layers as DL
    from dezero import no_grad, optimizers

    def twin(network: L.Sequential) -> tuple[list[Any], Callable]:
        stages, weights = [], iter(weights_for_torch(network, inner))
        for layer in network.layers:
            match layer:
                case L.Dense():
                    stage = DL.Linear(layer.weight.shape[1], nobias=layer.bias is None)
                    weight = numpy.ascontiguousarray(next(weights).T)
                case L.Conv2d() | L.ConvTranspose2d():
                    kind = DL.Conv2d if isinstance(layer, L.Conv2d) else DL.Deconv2d
                    weight = numpy.ascontiguousarray(next(weights))
                    outputs = weight.shape[0 if kind is DL.Conv2d else 1]
                    stage = kind(outputs, 4, layer.stride, layer.padding, layer.bias is None)
                case normalization.BatchNorm():
                    next(weights), next(weights)
                    stage = DL.BatchNorm()
                case L.Reshape():
                    stage = lambda x: F.reshape(x, (len(x), inner[2], *inner[:2]))  # noqa: E731
                case L.Flatten():
                    stage = lambda x: F.reshape(x, (len(x), -1))  # noqa: E731
                case L.LeakyReLU() | L.ReLU() | L.Tanh():
                    stage = {"LeakyReLU": F.leaky_relu, "ReLU": F.relu, "Tanh": F.tanh}[
                        type(layer).__name__]
            bias = next(weights) if getattr(layer, "bias", None) is not None else None
            if our_weights and hasattr(layer, "weight"):
                stage.W.data = weight
                if bias is not None:
                    stage.b.data = bias
            stages.append(stage)

        def forward(x: Any) -> Any:
            for stage in stages:
                x = stage(x)
            return x

        model = DL.Layer()
        for number, stage in enumerate(stages):
            if isinstance(stage, DL.Layer):
                setattr(model, f"stage{number}", stage)
        return model, forward

    (g_model, G), (d_model, D) = map(twin, networks)
    adam_g, adam_d = (optimizers.Adam(LR, 0.5).setup(model) for model in (g_model, d_model))

    def softplus(logits: Any) -> Any:
        return F.log(1.0 + F.exp(logits))

    def mean(x: Any) -> Any:
        return F.sum(x) / x.size

    def step(real: Any, z1: Any, z2: Any) -> None:
        with no_grad():
            fake = G(z1)
        d_loss = mean(softplus(-D(real))) + mean(softplus(D(fake)))
        d_model.cleargrads()
        d_loss.backward()
        adam_d.update()
        g_loss = mean(softplus(-D(G(z2))))
        g_model.cleargrads()
        d_model.cleargrads()
        g_loss.backward()
        adam_g.update()

    return step


# ---------------------------------------------------------------- the comparison


class Contest:
    """One workload, and a way to make its step for each contestant."""

    def __init__(self, workload: Workload):
        self.workload = workload
        randomness = numpy.random.default_rng(0)
        latent = workload.networks()[0].parameters()[0].shape[:1]
        self.batch = tuple(
            randomness.standard_normal((BATCH, *shape), dtype=numpy.float32)
            for shape in (workload.example, latent, latent)
        )

    def networks(self) -> tuple[L.Sequential, L.Sequential]:
        tinygan.seed(0)
        return self.workload.networks()

    def ours(self) -> Callable[[], Any]:
        step = tinygan_step(*self.networks())
        return lambda: step(*self.batch)

    def pytorch(self, best: bool) -> Callable[[], Any]:
        import torch

        G, D = (torch_twin(network, self.workload.inner) for network in self.networks())
        if best:
            G, D = (network.to(memory_format=torch.channels_last) for network in (G, D))
        options = {"lr": LR, "betas": (0.5, 0.999)} | ({"fused": True} if best else {})
        adams = tuple(torch.optim.Adam(network.parameters(), **options) for network in (G, D))
        step, batch = torch_step(G, D, adams, best), torch_batch(self.batch, best)
        return lambda: step(*batch)

    def dezero(self, our_weights: bool) -> Callable[[], Any]:
        step = dezero_step(self.networks(), self.workload.inner, our_weights)
        real, z1, z2 = self.batch
        batch = numpy.ascontiguousarray(real.transpose(0, 3, 1, 2)) if real.ndim == 4 else real
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)

        def step_as_it_comes() -> None:
            # With glibc's own thresholds (128 KiB, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD) in
            # place of those that tinygan sets for the process, from which PyTorch profits here.
            mallopt(-3, 128 * 1024)
            mallopt(-1, 128 * 1024)
            step(batch, z1, z2)
            backend._keep_freed_memory()

        return step_as_it_comes

    def check(self) -> float:
        """One step of gradient descent with both; the largest difference of losses and weights.

        With Adam a weight whose true gradient is zero would move by rounding alone.
        """
        import torch

        ours, lr = self.networks(), 0.01
        theirs = [torch_twin(network, self.workload.inner) for network in ours]
        sgd = tuple(torch.optim.SGD(network.parameters(), lr=lr) for network in theirs)
        losses = tinygan_step(*ours, SGD, lr)(*self.batch)
        expected = torch_step(*theirs, sgd, False)(*torch_batch(self.batch, False))
        pairs = [(a.numpy(), b.detach().numpy()) for a, b in zip(losses, expected, strict=True)]
        for network, twin in zip(ours, theirs, strict=True):
            arrays = weights_for_torch(network, self.workload.inner)
            pairs += zip(arrays, [p.detach().numpy() for p in twin.parameters()], strict=True)
        for a, b in pairs:
            numpy.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4)
        return max(float(numpy.abs(a - b).max()) for a, b in pairs)


def race(contestants: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of a step, a few steps of each in turn, so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, step in contestants.items():
            step()  # takes the caches, and lets the other's threads go to sleep
            start = time.perf_counter()
            for _ in range(3):
                step()
            if number:
                times[name].append((time.perf_counter() - start) / 3 * 1000)
    return times


def ratio(ours: list[float], theirs: list[float]) -> str:
    ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    low, high = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
    return f"{statistics.median(ratios):.2f} ({low:.2f}-{high:.2f})"


def bare_products(step: Callable[[], Any], rounds: int = 20) -> float:
    """Milliseconds of the matrix products of a step alone, each on the same two arrays."""
    pairs: list[tuple[Any, Any]] = []

    def noted(a: Any, b: Any) -> Any:
        pairs.append((a, b))
        return matrix_product(a, b)

    for module in (functions, convolution):
        module.matrix_product = noted
    step()
    for module in (functions, convolution):
        module.matrix_product = matrix_product
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for a, b in pairs:
            matrix_product(a, b)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def where_time_goes(step: Callable[[], Any], steps: int = 20) -> dict[str, float]:
    """Milliseconds of a step by kind of work, each function's own time, under the profiler."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(steps):
        step()
    profile.disable()
    kinds: dict[str, float] = {}
    for (path, _, name), (*_, own, _, _) in pstats.Stats(profile).stats.items():
        kind = kind_of_work(Path(path).name, name)
        kinds[kind] = kinds.get(kind, 0.0) + own / steps * 1000
    return dict(sorted(kinds.items(), key=lambda item: -item[1]))


def kind_of_work(file: str, function: str) -> str:
    if function == "matrix_product":
        return "matrix products"
    if file == "convolution.py" or "'reshape'" in function:
        return "im2col and its adjoint"
    if file == "normalization.py":
        return "BatchNorm"
    if file == "optimizers.py":
        return "optimizer"
    if file in ("tensor.py", "contextlib.py", "layers.py"):
        return "tape and layers"
    return "elementwise and the rest"


def peak_memory(name: str, contestant: str) -> float:
    """MB that 20 steps add to a fresh process that has made its networks."""
    command = [sys.executable, __file__, name, "--measure-memory", contestant]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_memory(contest: Contest, contestant: str) -> float:
    make = {"tinygan": contest.ours, "default": lambda: contest.pytorch(False)}[contestant]
    step = make()
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew from here
    before = peak_resident()
    for _ in range(20):
        step()
    return peak_resident() - before


def peak_resident() -> float:
    """MB: the most that this process has held in main memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def print_launches(names: list[str]) -> None:
    """How often a step launches each kernel on CuPy, which runs without a GPU here."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "cupy_on_cpu"))
    try:
        tinygan.use_device("gpu")
    except UsageError as error:
        sys.exit(f"error: {error}")
    import cuda_on_cpu

    for name in names:
        step = Contest(WORKLOADS[name]).ours()
        step()
        before = cuda_on_cpu.kernels.copy()
        with cuda_on_cpu.counting() as counts:
            step()
        print(f"{name}: {counts['launches']} launches a step, {counts['to device']} copies to the "
              f"device, {counts['to host']} back, {counts['waits']} waits")
        print("  " + ", ".join(f"{kernel} {count}" for kernel, count in
                               (cuda_on_cpu.kernels - before).most_common()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="*", metavar="W", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=30, help="rounds of 3 steps each")
    parser.add_argument("--launches", action="store_true",
                        help="time nothing, count the launches of kernels on CuPy without a GPU")
    parser.add_argument("--dezero", action="store_true", help="time DeZero too, if installed")
    parser.add_argument("--measure-memory", metavar="CONTESTANT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.workloads or list(WORKLOADS)
    if unknown := set(names) - set(WORKLOADS):
        parser.error(f"unknown workload {', '.join(unknown)}: choose from {', '.join(WORKLOADS)}")
    if options.measure_memory:
        print(measure_memory(Contest(WORKLOADS[names[0]]), options.measure_memory))
        return

    if options.launches:
        print_launches(names)
        return

    import torch

    print(f"PyTorch {torch.__version__}, NumPy {numpy.__version__}, "
          f"{torch.get_num_threads()} threads, batch {BATCH}, medians of {options.rounds} rounds")
    for name in names:
        contest = Contest(WORKLOADS[name])
        difference = contest.check()
        step = contest.ours()
        contestants = {"tinygan": step, "default": contest.pytorch(False),
                       "best": contest.pytorch(True)}
        if options.dezero:
            contestants |= {"DeZero as it comes": contest.dezero(False),
                            "DeZero in float32": contest.dezero(True)}
        times = race(contestants, options.rounds)
        median = {who: statistics.median(values) for who, values in times.items()}
        print(f"\n{name}: {contest.workload.title}")
        print(f"  losses and weights after a step agree to {difference:.0e}")
        print("  ms a step: " + ", ".join(f"{who} {value:.1f}" for who, value in median.items())
              + f"; its bare matrix products {bare_products(step):.1f}")
        print(f"  ratio to PyTorch default {ratio(times['tinygan'], times['default'])}, "
              f"to its best {ratio(times['tinygan'], times['best'])}"
              + "".join(f", to {who} {ratio(times['tinygan'], times[who])}"
                        for who in times if who.startswith("DeZero"))
              + "; above 1 tinygan is faster")
        print("  tinygan's time: " + ", ".join(
            f"{kind} {value:.1f}" for kind, value in where_time_goes(step).items()))
        memory = {who: peak_memory(name, who) for who in ("tinygan", "default")}
        print(f"  peak memory of the steps: {memory['tinygan']:.0f} MB, "
              f"PyTorch {memory['default']:.0f} MB")


if __name__ == "__main__":
    main()
