"""StyleGAN: what w depends on, which layers it styles, what noise does; how styles are judged."""

import json

import numpy
import pytest
from PIL import Image
from test_demos import run

from tinygan import Tensor, datasets, metrics
from tinygan.backend import to_device
from tinygan.datasets import ATTRIBUTES, Characters, characters, from_bytes
from tinygan.training import UsageError
from tinygan.training.trained import load_demo

SHORT = ["--steps", 2, "--batch-size", 4, "--width", 2]


def generator(*words):
    demo = load_demo("stylegan")
    settings = demo.options().parse_args(["--width=2", "--latent=6", *words])
    return demo.build(settings)["G"]


def normal(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape, dtype=numpy.float32)


def use(function, *arrays):
    return function(*[Tensor(to_device(array)) for array in arrays]).numpy()


@pytest.mark.parametrize("depth", [0, 2])
def test_only_the_direction_of_z_counts(depth):
    G, z = generator(f"--mapping={depth}"), normal(5, 6)
    w = use(G.mapping, z)
    numpy.testing.assert_allclose(use(G.mapping, 7 * z), w, rtol=1e-4, atol=1e-5)
    assert (abs(use(G.mapping, -z) - w) > 1e-3).any()
    if not depth:
        numpy.testing.assert_allclose((w**2).mean(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("size, sides", [(4, [4]), (8, [4, 8, 8]), (32, [4, 8, 8, 16, 16, 32, 32])])
def test_one_layer_at_4_x_4_and_two_at_each_larger_size(size, sides):
    G = generator(f"--size={size}", "--channels=1").eval()
    assert G.sides == sides and len(G.layers) == len(sides)
    assert use(G, normal(2, 6)).shape == (2, size, size, 1)


@pytest.mark.parametrize("size", [2, 12, 28])
def test_other_sizes_are_refused(size):
    with pytest.raises(UsageError, match=f"--size {size}"):
        generator(f"--size={size}")


def test_a_layer_is_styled_by_its_own_w():
    G, w = generator().eval(), normal(3, 5, 6)
    images = use(G.synthesis, w)
    for layer in range(5):
        other = w.copy()
        other[1, layer] += 1
        changed = abs(use(G.synthesis, other) - images).max(axis=(1, 2, 3)) > 1e-6
        assert changed.tolist() == [False, True, False]
    same = use(G.mapping, normal(3, 6))
    numpy.testing.assert_allclose(
        use(G, normal(3, 6)), use(G.synthesis, same[:, None].repeat(5, axis=1)), rtol=1e-5)


def test_noise_is_random_in_training_and_none_after_it_unless_given():
    G, w = generator(), normal(3, 5, 6)
    G.strength.data += 1
    assert (use(G.synthesis, w) != use(G.synthesis, w)).any()
    images = use(G.eval().synthesis, w)
    numpy.testing.assert_array_equal(images, use(G.synthesis, w))
    pixels = 4**2 + 2 * 8**2 + 2 * 16**2
    styles = Tensor(to_device(w))
    none, some = (G.synthesis(styles, to_device(noise)).numpy()
                  for noise in (numpy.zeros((3, pixels), "float32"), normal(3, pixels)))
    numpy.testing.assert_array_equal(images, none)
    assert (some != none).any()


@pytest.mark.parametrize("mixing", [0, 1])
def test_so_many_images_get_two_styles(mixing, tmp_path, monkeypatch):
    demo, seen = load_demo("stylegan"), []
    build = demo.build

    def watched(settings):
        parts = build(settings)
        synthesis = parts["G"].synthesis
        parts["G"].synthesis = lambda w: (seen.append(w.numpy()), synthesis(w))[1]
        return parts

    monkeypatch.setattr(demo, "build", watched)
    words = [*map(str, SHORT), "--measure=0", f"--mixing={0.999999 * mixing}", f"--out={tmp_path}"]
    demo.train(demo.options().parse_args(words))
    assert len(seen) == 4
    changes = (numpy.diff(numpy.concatenate(seen), axis=1) != 0).any(axis=2)
    assert (changes.sum(axis=1) == mixing).all()  # between two layers, or nowhere


@pytest.fixture
def few_characters(monkeypatch):
    """Quick to measure with: 200 real characters, and no more than 100 samples needed."""
    few = {part: Characters(*(array[:200] for array in characters(part)))
           for part in ("train", "held-out")}
    monkeypatch.setattr(datasets, "characters", lambda part="train": few[part])
    monkeypatch.setattr(metrics.styles, "FEWEST", 100)
    metrics.attributes.real_characters.cache_clear()
    yield
    metrics.attributes.real_characters.cache_clear()


def test_it_measures_and_draws_what_it_promises(tmp_path, capsys, few_characters):
    run("stylegan", tmp_path, *SHORT, "--measure", 100)
    rows = json.loads((tmp_path / "figures.json").read_text())
    assert [*rows] == [
        "Gaussian fit of the pixels", "samples of G", "mixed styles", "truncation 0.8",
        "truncation 0.6", "truncation 0.4", "held-out characters", "paths in Z", "paths in W",
        "styles of 4 x 4", "styles of 8 x 8", "styles of 16 x 16", "by chance"]
    assert [*rows["by chance"]] == [*ATTRIBUTES]
    printed = capsys.readouterr().out
    titles = [line.split() for line in printed.splitlines() if line.startswith("   ")]
    assert titles == [["Frechet", "kernel", "precision", "recall"], ["path", "length"],
                      [*ATTRIBUTES]]  # three tables
    with numpy.load(tmp_path / "figures.npz") as arrays:
        assert {arrays[name].shape for name in ("images", "mixed")} == {(100, 16, 16, 3)}
    for name, columns, lines in ("mixed", 9, 9), ("noise", 12, 4), ("truncation", 12, 8):
        assert Image.open(tmp_path / f"{name}.png").size == (
            3 * (17 * columns - 1), 3 * (17 * lines - 1))


# ---------------------------------------------------------------- how styles are judged


class Chooser:
    """A generator of real characters: the style of the 8 x 8 layer says which."""

    sides = [4, 8]
    real = from_bytes(characters("held-out").images)

    def mapping(self, z):
        return z

    def synthesis(self, styles, noise):
        chosen = abs(styles.numpy()[:, 1, 0] * 1e4).astype(int) % len(self.real)
        return Tensor(to_device(self.real[chosen]))


def test_attributes_follow_the_styles_that_make_them():
    shares = metrics.followed(metrics.Styles(Chooser(), latent=2), 300)
    assert [*shares] == ["styles of 4 x 4", "styles of 8 x 8", "by chance"]
    assert set(shares["styles of 4 x 4"].values()) == {0}
    assert set(shares["styles of 8 x 8"].values()) == {1}
    assert 0.1 < shares["by chance"]["clothes"] < 0.25  # one of six, none the first


class Fade(Chooser):
    """Its images change evenly with the first number of w; z comes to w with jumps."""

    def __init__(self, jumps):
        self.jumps = jumps

    def mapping(self, z):
        z = z.numpy()
        return Tensor(to_device(numpy.where(z > 0, 1, -1) * 0.1 + z if self.jumps else z))

    def synthesis(self, styles, noise):
        amount = styles.numpy()[:, 0, :1, None, None] * 0.1
        return Tensor(to_device(self.real[:1] * (1 + amount)))


def test_a_path_is_longer_where_it_jumps(few_characters):
    even, jumping = (metrics.path_lengths(metrics.Styles(Fade(jumps), latent=8), 200)
                     for jumps in (False, True))
    lengths = [rows["paths in Z"]["path length"] / rows["paths in W"]["path length"]
               for rows in (even, jumping)]
    assert lengths[0] < 2 and lengths[1] > 2 * lengths[0]


def test_truncation_pulls_to_the_mean():
    styles = metrics.Styles(Chooser(), latent=3, seed=1)
    w = styles.latents(10)
    numpy.testing.assert_allclose(styles.truncated(w, 1), w, rtol=1e-5, atol=1e-6)
    numpy.testing.assert_allclose(styles.truncated(w, 0), styles.mean + 0 * w)
    assert abs(styles.mean).max() < 0.1
