"""MuseGAN: who plays what from which noise, who hears it, and how a symbol is chosen."""

import json

import numpy
import pytest
from test_demos import run

from tinygan import Tensor, datasets
from tinygan.backend import to_device
from tinygan.datasets.chorales import HOLD, SYMBOLS
from tinygan.functions import softmax
from tinygan.training import checkpoints
from tinygan.training.trained import load_demo

SHORT = ["--steps", 2, "--batch-size", 4, "--width", 4]


def parts_of(*words):
    demo = load_demo("musegan")
    return demo.build(demo.options().parse_args(["--width=4", "--latent=6", *words]))


def normal(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape, dtype=numpy.float32)


@pytest.mark.parametrize(("model", "latent", "voices"), [
    ("composer", 6, {0: "1111", 5: "1111"}),
    ("jamming", 24, {0: "1000", 5: "1000", 6: "0100", 12: "0010", 23: "0001"}),
    ("hybrid", 15, {0: "1111", 2: "1111", 3: "1000", 6: "0100", 14: "0001"}),
    ("shared-noise", 15, {0: "1111", 5: "1000"}),
    ("one-critic", 24, {0: "1000", 23: "0001"}),
])
def test_which_numbers_of_z_each_voice_plays_from(model, latent, voices):
    G = parts_of(f"--model={model}")["G"]
    G.output = "softmax"  # a mixture changes with every number
    assert G.latent == latent
    z = normal(8, latent)
    G(Tensor(to_device(z)))
    for module in G.modules():
        module.training = module is G  # BatchNorm by running statistics, and mixtures all the same
    plain = G(Tensor(to_device(z))).numpy()
    for number, moved in voices.items():
        other = z.copy()
        other[:, number] += 1
        changes = abs(G(Tensor(to_device(other))).numpy() - plain).max(axis=(0, 1, 3))
        assert "".join(str(int(change > 0)) for change in changes) == moved


@pytest.mark.parametrize(("model", "critics", "heard"), [
    ("composer", 1, 4), ("hybrid", 1, 4), ("one-critic", 1, 4), ("jamming", 4, 1),
    ("shared-noise", 4, 1)])
def test_a_critic_hears_all_voices_or_one(model, critics, heard):
    C = parts_of(f"--model={model}")["critics"]
    assert len(C.layers) == critics
    assert C.layers[0](Tensor(to_device(normal(3, 32, heard, SYMBOLS)))).shape == (3, 1)


def test_one_symbol_is_played_and_learned_from_as_if_it_were_softmax():
    G, logits = parts_of("--output=straight")["G"], normal(2, 3, 4, SYMBOLS)
    weights = normal(SYMBOLS, seed=1)
    x, same = (Tensor(to_device(logits), requires_grad=True) for _ in range(2))
    played = G.chosen(x)
    expected = logits == logits.max(axis=3, keepdims=True)
    numpy.testing.assert_allclose(played.numpy(), expected, atol=1e-6)
    (played * to_device(weights)).sum().backward()
    (softmax(same) * to_device(weights)).sum().backward()
    numpy.testing.assert_allclose(x.grad.numpy(), same.grad.numpy(), rtol=1e-6)


def test_a_random_symbol_is_as_likely_as_softmax_says_and_after_training_none_is_random():
    G, logits = parts_of("--output=gumbel")["G"], numpy.zeros((4000, 1, 1, 3), numpy.float32)
    logits += numpy.log([0.5, 0.3, 0.2]).astype(numpy.float32)
    G.chance = 1.0
    often = G.chosen(Tensor(to_device(logits))).numpy().mean(axis=(0, 1, 2))
    assert often == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
    assert (G.eval().chosen(Tensor(to_device(logits))).numpy().argmax(axis=3) == 0).all()


def test_a_mixture_is_played_in_training_alone():
    G, logits = parts_of("--output=softmax")["G"], Tensor(to_device(normal(2, 3, 4, SYMBOLS)))
    numpy.testing.assert_array_equal(G.chosen(logits).numpy(), softmax(logits).numpy())
    assert ((G.eval().chosen(logits).numpy() > 0.5).sum(axis=3) == 1).all()


@pytest.mark.parametrize("output", ["fading", "straight"])
def test_chance_fades_where_it_should(output, tmp_path, monkeypatch):
    demo, seen = load_demo("musegan"), []
    build = demo.build

    def watched(settings):
        parts = build(settings)
        forward = parts["G"].forward
        parts["G"].forward = lambda z: (seen.append(parts["G"].chance), forward(z))[1]
        return parts

    monkeypatch.setattr(demo, "build", watched)
    settings = demo.options().parse_args(
        [*map(str, SHORT), "--measure=0", f"--output={output}", "--steps=4", f"--out={tmp_path}"])
    demo.train(settings)
    assert seen[0] == (output == "fading") and seen[-1] == (output == "fading") * seen[-1] < 1


def test_the_run_measures_what_it_shows_and_plays(tmp_path, capsys):
    run("musegan", tmp_path, *SHORT, "--measure", 6, "--model", "hybrid")
    rows = json.loads((tmp_path / "figures.json").read_text())
    assert [*rows] == ["random notes", "voices of different chorales", "hybrid",
                       "Bach, to train on", "Bach, held out"]
    for name in ("html", "hybrid.mid", "hybrid.wav", "bach.mid", "bach.wav", "nearest.wav"):
        assert (tmp_path / f"samples.{name}").stat().st_size > 500
    assert "samples.html" in capsys.readouterr().out
    with numpy.load(tmp_path / "figures.npz") as arrays:
        made = datasets.Phrases(arrays["pitch"], arrays["onset"])
    demo = load_demo("musegan")
    trained = demo.options().parse_args(["--width=4", "--model=hybrid"])
    parts = demo.build(trained)
    for name, part in parts.items():
        part.load_state(checkpoints.read(tmp_path).parts[name])
    again = demo.pictures(trained, parts).phrases(6)
    assert numpy.array_equal(made.pitch, again.pitch) and made.onset.any()


def test_nothing_is_held_that_does_not_sound():
    rolls = parts_of()["G"](Tensor(to_device(normal(8, 6)))).numpy()
    assert (rolls[:, 0, :, HOLD] == 0).all()
    assert ((rolls[..., :HOLD] > 0.5).sum(axis=-1) == 1).all()
    assert (rolls[..., HOLD] * rolls[..., HOLD - 1] < 1e-6).all()


@pytest.mark.parametrize("words", [["--model=trio"], ["--output=argmax"], ["--measure=-1"]])
def test_wrong_options_are_refused(words, capsys):
    with pytest.raises(SystemExit) as end:
        load_demo("musegan").options().parse_args(words)
    assert end.value.code == 2 and words[0].partition("=")[0] in capsys.readouterr().err
