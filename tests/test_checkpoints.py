"""Checkpoints: written whole, read without trust, the one before kept, the generator rebuilt."""

import json
import zipfile

import numpy
import pytest
from tinygan.checkpoints import Checkpoint, CheckpointError, build, describe

import tinygan
from tinygan import Tensor, checkpoints, layers, no_grad, training
from tinygan.backend import to_device, to_host
from tinygan.files import UsageError
from tinygan.optimizers import Adam, ExponentialMovingAverage


def example(step=3, **changes):
    return Checkpoint(
        step, {"latent": 2}, {"state": 2**100}, 0, None,
        {"step": numpy.array([1, 2]), "loss": numpy.array([0.5, 0.25])},
        {"G": {"weight": numpy.arange(6, dtype="float32").reshape(2, 3)}},
    )._replace(**changes)


def rewritten(path, **changes):
    """The archive anew, with other contents for the members of these names (None: without)."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()} | changes
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return path


def test_what_is_read_is_what_was_written(tmp_path):
    checkpoints.write(tmp_path, example())
    found = checkpoints.read(tmp_path)
    assert found[:5] == example()[:5]
    numpy.testing.assert_array_equal(found.log["loss"], [0.5, 0.25])
    numpy.testing.assert_array_equal(found.parts["G"]["weight"], example().parts["G"]["weight"])
    assert found.parts["G"]["weight"].dtype == "float32"


def test_the_checkpoint_before_the_last_is_kept_and_used_where_the_last_is_damaged(
    tmp_path, capsys
):
    checkpoints.write(tmp_path, example(step=1))
    checkpoints.write(tmp_path, example(step=2))
    assert checkpoints.read(tmp_path).step == 2
    assert checkpoints.read(tmp_path / checkpoints.PREVIOUS).step == 1
    content = (tmp_path / checkpoints.FILE).read_bytes()
    for damaged in (content[:-30], b""):
        (tmp_path / checkpoints.FILE).write_bytes(damaged)
        assert checkpoints.read(tmp_path).step == 1
        assert "step 1, is used" in capsys.readouterr().err
    (tmp_path / checkpoints.FILE).unlink()
    assert checkpoints.read(tmp_path).step == 1


def test_a_write_that_fails_leaves_the_last_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    checkpoints.write(tmp_path, example(step=1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(file, **arrays):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numpy, "savez", full)
    with pytest.raises(UsageError, match="No space left"):
        checkpoints.write(tmp_path, example(step=2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def about(**changes):
    text = {"format": checkpoints.FORMAT} | example()._asdict() | changes
    return json.dumps({name: text[name] for name in text.keys() - {"log", "parts"}}).encode()


def npy(array, header=None):
    """An array as bytes in the .npy format, or these bytes after another header."""
    content = numpy.lib.format.magic(1, 0)
    header = header or repr({
        "descr": array.dtype.str, "fortran_order": False, "shape": array.shape,
    })
    return content + len(header).to_bytes(2, "little") + header.encode() + array.tobytes()


def text(content):
    return npy(numpy.frombuffer(content, "uint8"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("about.npy", text(about(format=1)), "format 1, expected 2"),
        ("about.npy", text(about(step=-1)), "step is -1"),
        ("about.npy", text(about(step="3")), "step is '3'"),
        ("about.npy", text(about(options=[])), "options is"),
        ("about.npy", text(b"{" * 3000), "damaged"),
        ("about.npy", None, "about"),
        ("G/weight.npy", npy(numpy.zeros(2), "{'descr': '|O', 'fortran_order': False, "
                             "'shape': (2,)}"), "OBJECT"),
        ("G/weight.npy", npy(numpy.zeros(2), "{'descr': '<f4', 'fortran_order': False, "
                             f"'shape': ({2**60},)}}"), "reshape"),
        ("G/weight.npy", npy(numpy.zeros(2), "{'descr': '<f8', 'fortran_order': False, "
                             "'shape': (-1,)}"), "shape (-1,)"),
        ("G/weight.npy", npy(numpy.zeros(2), "{'descr': ('<f8', (2,)), 'fortran_order': False, "
                             "'shape': (2,)}"), "dtype ('<f8', (2,))"),
        ("G/weight.npy", b"", "damaged"),
        ("../weight.npy", npy(numpy.zeros(2)), "../weight"),
        ("/tmp/weight.npy", npy(numpy.zeros(2)), "/tmp/weight"),
        ("G/weight.py", b"", "G/weight.py"),
        ("log/loss.npy", npy(numpy.zeros((2, 2))), "same shape"),
        ("log/loss.npy", npy(numpy.array(["a", "b"])), "no table of numbers"),
        ("log/step.npy", None, "no table of numbers"),
    ],
)
def test_what_is_wrong_inside_is_named(name, content, words, tmp_path):
    checkpoints.write(tmp_path, example())
    path = rewritten(tmp_path / checkpoints.FILE, **{name: content})
    with pytest.raises(CheckpointError, match="not a checkpoint, or is damaged") as error:
        checkpoints.read(path)
    assert words in str(error.value)


def test_a_packed_archive_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.npy", bytes(1 << 24))
    with pytest.raises(CheckpointError, match="packed"):
        checkpoints.read(tmp_path / "bomb.npz")


def test_a_missing_checkpoint_is_named_with_the_way_out(tmp_path):
    with pytest.raises(CheckpointError, match="without --resume"):
        checkpoints.read(tmp_path)


# ---------------------------------------------------------------- the generator of a file


def generator():
    return layers.Sequential(
        layers.Dense(2, 8, bias=False, scale=0.5), layers.Reshape(2, 2, 2), layers.BatchNorm(2),
        layers.Sequential(
            layers.LeakyReLU(0.1),
            layers.ConvTranspose2d(2, 1, kernel=4, stride=2, padding=1),
        ),
        layers.Tanh(),
    )


def saved_generator(folder, network, **changes):
    """A checkpoint as a run writes it, of that network and its average."""
    average = ExponentialMovingAverage(network)
    checkpoints.write(folder, example(
        network=["average of G", describe(network)], parts={"average of G": average.state()},
        **changes,
    ))


def test_a_network_is_built_again_from_its_description():
    again = build(json.loads(json.dumps(describe(generator()))))
    assert describe(again) == describe(generator())
    assert [tensor.shape for tensor in again.named_tensors().values()] == [
        tensor.shape for tensor in generator().named_tensors().values()
    ]


@pytest.mark.parametrize("name", sorted(checkpoints.LAYERS))
def test_every_layer_can_be_described(name):
    arguments = {
        "Conv2d": (2, 3), "ConvTranspose2d": (2, 3), "Dense": (2, 3), "Embedding": (4, 3),
        "BatchNorm": (3,), "LayerNorm": (3,), "Reshape": (1, 2), "Shift": (1.0,),
        "Sequential": (layers.Tanh(),), "Codes": (2,), "RandomTranslation": (1,),
    }
    options = {"kernel": 3} if "Conv" in name else {}
    module = checkpoints.LAYERS[name](*arguments.get(name, ()), **options)
    again = build(json.loads(json.dumps(describe(module))))
    assert type(again) is type(module)
    assert {key: array.shape for key, array in again.state().items()} == {
        key: array.shape for key, array in module.state().items()
    }


def test_a_class_of_ones_own_cannot_be_described():
    class Dense(layers.Module):
        pass

    with pytest.raises(ValueError, match="Dense is not a class of layers.py"):
        describe(layers.Sequential(Dense()))


def test_a_loaded_generator_makes_what_the_saved_one_made(tmp_path):
    network = generator()
    for tensor in network.named_tensors().values():
        tensor.data[...] = tensor.data + 0.1
    saved_generator(tmp_path, network)
    loaded = training.load_generator(tmp_path)
    latents = numpy.random.default_rng(0).standard_normal((700, 2), dtype="float32")
    with no_grad():
        expected = network.eval()(Tensor(tinygan.backend.to_device(latents))).numpy()
    numpy.testing.assert_allclose(loaded.from_latents(latents), expected, rtol=1e-5, atol=1e-6)
    assert loaded.samples(5, seed=1).shape == (5, 4, 4, 1)
    assert (loaded.samples(5, seed=1) == loaded.samples(5, seed=1)).all()
    assert (loaded.samples(5, seed=1) != loaded.samples(5, seed=2)).any()
    assert loaded.step == 3 and loaded.options == {"latent": 2}


def test_labels_choose_what_a_generator_with_classes_makes(tmp_path):
    network = layers.Sequential(layers.Dense(5, 4), layers.Reshape(2, 2, 1))
    saved_generator(tmp_path, network, classes=3)
    loaded = training.load_generator(tmp_path)
    latents = numpy.ones((3, 2), dtype="float32")
    weight = network.layers[0].weight.numpy()
    expected = (weight[0] + weight[1])[None] + weight[2:] * 3**0.5
    made = loaded.from_latents(latents, numpy.arange(3))
    numpy.testing.assert_allclose(made.reshape(3, 4), expected, rtol=1e-5)
    with pytest.raises(UsageError, match="from 0 to 2"):
        loaded.samples(1, labels=numpy.array([3]))


def test_labels_for_a_generator_without_classes_are_an_error(tmp_path):
    saved_generator(tmp_path, generator())
    with pytest.raises(UsageError, match="no labels"):
        training.load_generator(tmp_path).samples(1, labels=numpy.array([0]))


@pytest.mark.parametrize(
    "layers_of_file",
    [
        ["Sequential", [["Dense", [2, 10**9], {}]], {}],
        ["Sequential", [["Dense", [], {"inputs": 2, "outputs": 10**9}]], {}],
        ["Sequential", [["Conv2d", [2, 2], {"kernel": 10**5}]], {}],
        ["Sequential", [["Dense", [300, 300], {}]] * 50, {}],
        ["Sequential", [["Upsample", [10**4], {}]], {}],
        ["Sequential", [["Upsample", [], {"factor": 16}]] * 9, {}],
        ["Sequential", [["ConvTranspose2d", [2, 2], {"kernel": 3, "stride": 100}]], {}],
        ["Sequential", [["Conv2d", [2, 2], {"kernel": 3, "padding": 10**4}]], {}],
        ["Sequential", [["Module", [], {}]], {}],
        ["Sequential", [["os.system", ["true"], {}]], {}],
        ["Sequential", [["Dense", ["2", None], {}]], {}],
        ["Sequential", [["Dense", [2, 9], {}]], {}],
        ["Dense", 3],
        "Dense",
        7,
    ],
)
def test_a_description_that_does_not_fit_its_arrays_is_refused(layers_of_file, tmp_path):
    saved_generator(tmp_path, generator())
    saved = checkpoints.read(tmp_path)
    checkpoints.write(tmp_path, saved._replace(network=["average of G", layers_of_file]))
    with pytest.raises(CheckpointError, match="does not hold a generator"):
        training.load_generator(tmp_path)


# ---------------------------------------------------------------- runs


def new_run(folder, *words, network=None, parts=None):
    options = training.parser("", out=str(folder), steps=6, latent=2).parse_args(words)
    network = network or generator()
    return training.Run(options, 100, tinygan.losses.Minimax(), network, parts or {"G": network})


def test_a_checkpoint_that_does_not_fit_leaves_all_as_it_was(tmp_path):
    new_run(tmp_path).save()
    other = generator()
    adam = Adam(layers.Dense(1, 1).parameters(), 1e-3)
    small = layers.Sequential(layers.Dense(2, 8, bias=False), layers.Dense(8, 1))
    random = tinygan.backend.generator.bit_generator.state
    before = other.state()
    with pytest.raises(CheckpointError, match="it has G, not G, Adam of G"):
        new_run(tmp_path, "--resume", network=other, parts={"G": other, "Adam of G": adam})
    with pytest.raises(CheckpointError, match=r"G.*'layers.1.weight'"):
        new_run(tmp_path, "--resume", network=small)
    assert random == tinygan.backend.generator.bit_generator.state
    for name, array in other.state().items():
        numpy.testing.assert_array_equal(array, before[name])


def test_a_resumed_run_clears_away_what_a_killed_one_left_half_written(tmp_path):
    run = new_run(tmp_path)
    run.step, run.rows = 2, [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    run.save()
    (tmp_path / "log.csv").write_text("step,loss\n1,0.5\n2,0.25\n3,0.1\n4,0.")
    (tmp_path / "samples").mkdir()
    for name in (".checkpoint.npz.x7.npz", "samples/.0000004.png.x7.png", "samples/0000003.png"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "samples" / "0000002.png").write_bytes(b"whole")
    resumed = new_run(tmp_path, "--resume")
    assert (tmp_path / "log.csv").read_text().split() == ["step,loss", "1,0.5", "2,0.25"]
    assert resumed.rows == run.rows and resumed.step == 2
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"checkpoint.npz", "log.csv", "samples/0000002.png"}


def test_the_options_of_a_checkpoint_are_checked_like_typed_ones(tmp_path, monkeypatch, capsys):
    new_run(tmp_path).save()
    saved = checkpoints.read(tmp_path)

    def resumed(**changes):
        checkpoints.write(tmp_path, saved._replace(options=saved.options | changes))
        monkeypatch.setattr("sys.argv", ["demo.py", "--resume", "--out", str(tmp_path)])
        return training.parse(training.parser("", out="elsewhere", steps=5))

    options = resumed(batch_size=7, unknown=1, out="elsewhere", debug=True)
    assert options.batch_size == 7 and options.out == tmp_path and not options.debug
    for wrong in ({"steps": -5}, {"lr": "nan"}, {"latent": [3]}, {"batch_size": True}):
        with pytest.raises(SystemExit) as stopped:
            resumed(**wrong)
        assert stopped.value.code == 2
        assert f"argument --{[*wrong][0].replace('_', '-')}" in capsys.readouterr().err


def test_a_label_stands_beside_the_latents_and_is_as_large():
    latents = numpy.arange(6, dtype="float32").reshape(2, 3)
    beside = checkpoints.with_labels(to_device(latents), to_device(numpy.array([3, 0])), classes=4)
    assert beside.dtype == numpy.float32
    numpy.testing.assert_array_equal(
        to_host(beside), [[0, 1, 2, 0, 0, 0, 2], [3, 4, 5, 2, 0, 0, 0]]
    )


def test_the_pictures_of_a_run_with_classes_have_a_class_in_each_row(tmp_path):
    seen = []

    def sample(latents):
        seen.append(latents.numpy())
        return latents[:, :4].reshape(-1, 2, 2, 1)

    options = training.parser("", out=str(tmp_path), steps=1, latent=4).parse_args([])
    run = training.Run(options, 100, tinygan.losses.Minimax(), sample, {}, classes=3)
    for _ in run:
        run.log({"D loss": Tensor(1.0), "D(x)": Tensor(0.5)})
    grid = seen[0]
    assert grid.shape == (30, 4 + 3)
    numpy.testing.assert_array_equal(grid[:, 4:].argmax(1), numpy.repeat(range(3), 10))
    numpy.testing.assert_array_equal(grid[:10, :4], grid[20:, :4])


def test_a_damaged_picture_is_named_at_the_end_of_a_resumed_run(tmp_path):
    run = new_run(tmp_path)
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "0000001.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="0000001.png"):
        run._finish()
