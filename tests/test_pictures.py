"""What is drawn from latents, and trained runs that are made again by their demo."""

import numpy
import pytest

import tinygan
from tinygan import Tensor, plots, training
from tinygan.backend import to_host
from tinygan.files import UsageError
from tinygan.normalization import BatchNorm
from tinygan.training import checkpoints
from tinygan.training.trained import load_demo


def made(latents, labels=None):
    """Images (N, 2, 2, 1) that show the latents, moved by the labels."""
    images = latents[:, :4].reshape(-1, 2, 2, 1)
    return images if labels is None else images + Tensor(labels.astype("float32")).reshape(
        -1, 1, 1, 1)


def test_many_images_are_made_block_by_block():
    latents = numpy.random.default_rng(0).standard_normal((1203, 4), dtype="float32")
    images = training.Pictures(made, 4).from_latents(latents)
    numpy.testing.assert_array_equal(images.reshape(-1, 4), latents)


def test_samples_depend_on_their_seed_alone():
    pictures = training.Pictures(made, 4)
    assert pictures.samples(5, seed=1).shape == (5, 2, 2, 1)
    assert (pictures.samples(5, seed=1) == pictures.samples(5, seed=1)).all()
    assert (pictures.samples(5, seed=1) != pictures.samples(5, seed=2)).all()


def test_labels_choose_what_is_made_and_are_drawn_if_none_are_given():
    pictures = training.Pictures(made, 4, classes=3)
    latents = numpy.zeros((3, 4), dtype="float32")
    images = pictures.from_latents(latents, numpy.arange(3))
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2]
    plain = training.Pictures(made, 4).samples(600, seed=1)
    moved = pictures.samples(600, seed=1) - plain
    assert numpy.bincount(moved[:, 0, 0, 0].round().astype(int)).min() > 150
    with pytest.raises(UsageError, match="from 0 to 2"):
        pictures.samples(1, labels=numpy.array([3]))
    with pytest.raises(UsageError, match="no labels"):
        training.Pictures(made, 4).samples(1, labels=numpy.array([0]))


def test_the_grid_of_a_run_has_a_class_in_each_row_from_the_same_latents(tmp_path, monkeypatch):
    grids = []
    monkeypatch.setattr(plots, "save_grid", lambda *given, **how: grids.append((given, how)))
    training.Pictures(made, 4, classes=3).draw(tmp_path / "grid.png")
    (images, _), options = grids[0]
    rows = images.reshape(3, 10, 4)
    assert options == {"columns": 10}
    numpy.testing.assert_allclose(rows[1] - rows[0], 1, atol=1e-6)
    numpy.testing.assert_allclose(rows[2] - rows[0], 2, atol=1e-6)


def test_pictures_change_nothing_in_the_random_numbers_of_a_training(tmp_path):
    before = tinygan.backend.generator.bit_generator.state
    pictures = training.Pictures(made, 4)
    pictures.draw(tmp_path / "grid.png")
    pictures.draw_interpolation(tmp_path / "interpolation.png")
    assert tinygan.backend.generator.bit_generator.state == before


# ---------------------------------------------------------------- trained runs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, as its demo would have saved it."""
    folder, demo = tmp_path_factory.mktemp("run"), load_demo("mnist_gan")
    settings = demo.options().parse_args(["--latent", "5", "--out", str(folder)])
    tinygan.seed(3)
    parts = demo.build(settings)
    checkpoints.write(folder, checkpoints.Checkpoint(
        "mnist_gan", 9, vars(settings), {}, {}, {},
        {name: part.state() for name, part in parts.items()},
    ))
    return folder


def test_a_trained_run_has_its_options_and_its_weights(run):
    trained = training.load(run)
    assert (trained.step, trained.settings.latent, trained.settings.out) == (9, 5, run)
    saved = checkpoints.read(run).parts["average of G"]
    for name, tensor in trained.parts["average of G"].network.named_tensors().items():
        numpy.testing.assert_array_equal(to_host(tensor.data), saved[name])
    assert trained.pictures().samples(3).shape == (3, 28, 28, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"demo": "cgan"}, "can't be made again"),
        ({"options": {"latent": 6}}, "layers.0.weight"),
        ({"options": {"latent": "many"}}, "can't be made again"),
        ({"options": {"latent": -1}}, "can't be made again"),
        ({"parts": {}}, "can't be made again"),
    ],
)
def test_what_cannot_be_made_again_is_one_sentence(change, words, run, tmp_path):
    saved = checkpoints.read(run)
    if "options" in change:
        change = {"options": saved.options | change["options"]}
    checkpoints.write(tmp_path, saved._replace(**change))
    with pytest.raises(training.CheckpointError) as error:
        training.load(tmp_path)
    assert words in str(error.value) and "train again" in str(error.value)


def test_a_run_of_a_demo_that_is_not_there_is_one_sentence(run, tmp_path):
    for name in ("no_such_demo", "../demos/mnist_gan"):
        checkpoints.write(tmp_path, checkpoints.read(run)._replace(demo=name))
        with pytest.raises(UsageError, match="there is no demo"):
            training.load(tmp_path)


def test_only_demos_are_found_by_their_names():
    for name in ("", "..", "../demos/cgan", "/etc/passwd", "cgan.py", "CGAN"):
        with pytest.raises(UsageError, match="there is no demo"):
            load_demo(name)


# ---------------------------------------------------------------- within a threshold


def told(latents, labels=None):
    """Two numbers of the latents as images of two pixels."""
    return latents.reshape(-1, 1, 2, 1)


@pytest.mark.parametrize("threshold", [2.0, 0.5, 0.1])
def test_numbers_beyond_the_threshold_are_drawn_anew(threshold):
    pictures = training.Truncated(told, 2, threshold=threshold, standing=False)
    latents = numpy.random.default_rng(3).standard_normal((2000, 2), dtype="float32")
    drawn = pictures.from_latents(latents).reshape(-1, 2)
    within = abs(latents) <= threshold
    assert numpy.array_equal(drawn[within], latents[within])
    assert abs(drawn).max() <= threshold and drawn.dtype == "float32"
    anew = drawn[~within]  # not clipped: normal numbers that happen to be small
    assert len(numpy.unique(anew)) > 0.99 * len(anew)
    uniform = threshold / 3**0.5  # as they nearly are where the threshold is small
    assert (anew.std() < 0.9) if threshold == 2 else anew.std() == pytest.approx(uniform, rel=0.1)


def test_without_a_threshold_latents_stay_as_they_are():
    latents = numpy.random.default_rng(3).standard_normal((50, 2), dtype="float32") * 3
    pictures = training.Truncated(told, 2, standing=False)
    assert numpy.array_equal(pictures.from_latents(latents).reshape(-1, 2), latents)


def test_standing_statistics_are_those_of_latents_within_the_threshold():
    norm = BatchNorm(2).eval()
    norm.forward, plain = (lambda latents, labels: told(plain(latents))), norm.forward
    before = tinygan.backend.generator.bit_generator.state
    deviations = []
    for threshold in (float("inf"), 0.5):
        pictures = training.Truncated(norm, 2, classes=3, threshold=threshold)
        pictures.samples(10)
        deviations.append(norm.running_variance.numpy() ** 0.5)
        assert not norm.training
    assert tinygan.backend.generator.bit_generator.state == before
    numpy.testing.assert_allclose(deviations[0], 1, rtol=0.1)
    numpy.testing.assert_allclose(deviations[1], 0.5 / 3**0.5, rtol=0.1)
    before = norm.state()
    training.Truncated(norm, 2, classes=3, standing=False).samples(10)
    assert all(numpy.array_equal(array, before[name]) for name, array in norm.state().items())
