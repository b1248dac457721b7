"""Captions of characters, what reads them, and whether pictures show what they say."""

from random import Random

import numpy
import pytest

from tinygan import Tensor, check_gradients, losses, metrics, networks, plots
from tinygan.backend import to_device
from tinygan.datasets import (
    ATTRIBUTES,
    WORDS,
    DataError,
    caption,
    captioned,
    characters,
    from_bytes,
    halved,
    held_out_combinations,
    text,
    tokens,
)
from tinygan.datasets.captions import ABSENT, LONGEST, MOODS, PHRASES
from tinygan.datasets.characters import PARTS

COLUMNS = [*ATTRIBUTES]
EXAMPLE = "A happy character with dark skin, long red hair, glasses, a blue hat and a green shirt"


@pytest.fixture(scope="module")
def held_out():
    return captioned("held-out", each=2)


# ---------------------------------------------------------------- what is said


def stated(words):
    """The attributes that a caption names, by its words alone."""
    found, words = {}, words.split()
    for name, phrases in PHRASES.items():
        for phrase in (*phrases, *ABSENT.get(name, ())):
            span = phrase.split()
            for i in range(len(words) - len(span) + 1):
                values = [word for word, mark in zip(words[i:], span, strict=False) if mark == "{}"]
                if all(mark in ("{}", word) for word, mark in zip(words[i:], span, strict=False)):
                    absent = phrase in ABSENT.get(name, ())
                    found[name] = "none" if absent else values[0] if values else name
    for mood, names in MOODS.items():
        found |= {"mood": mood} if set(names) & set(words) else {}
    if "long" in words or "short" in words:
        found["length"] = "long" if "long" in words else "short"
    if found.get("hair") in ("long", "short"):
        del found["hair"]  # "long hair" has no colour
    return found


def test_a_caption_says_what_the_attributes_say_and_no_more(held_out):
    for row in range(0, len(held_out.images), 5):
        expected = {name: ATTRIBUTES[name][held_out.attributes[row, i]]
                    for i, name in enumerate(COLUMNS) if held_out.named[row, 1, i]}
        assert stated(text(held_out.tokens[row, 1])) == expected


def test_every_value_is_said_and_all_that_is_said_is_known(held_out):
    said = [set(stated(text(words)).items()) for words in held_out.tokens[:, 0]]
    every = {(name, value) for name, values in ATTRIBUTES.items() for value in values}
    assert set.union(*said) == every
    used = set(held_out.tokens.ravel()) - {0}
    assert used == set(range(1, 1 + len(WORDS)))


def test_order_and_words_vary_and_the_same_seed_says_the_same(held_out):
    values = {"hat": "red", "hair": "black", "mood": "happy"}
    random = Random(0)
    assert len({caption(values, random) for _ in range(60)}) > 15
    assert caption({}, random).startswith("a ")
    numpy.testing.assert_array_equal(captioned("held-out", each=2).tokens, held_out.tokens)
    assert (captioned("held-out", each=2, seed=1).tokens != held_out.tokens).any()


def test_captions_of_one_character_may_name_more_and_less():
    some = captioned("held-out", each=3, mentioned=(1, 0.5, 0))
    shares = some.named[:, :, COLUMNS.index("skin")].mean(axis=0)
    assert shares[0] == 1 and 0.4 < shares[1] < 0.6 and shares[2] == 0
    lengths = (some.tokens > 0).sum(axis=2).mean(axis=0)
    assert lengths[0] > 15 > lengths[1] > 5 > lengths[2] == 2


def test_hair_that_does_not_show_is_not_named():
    some = captioned("held-out", each=1, mentioned=1)
    hair = some.named[:, 0, [COLUMNS.index(name) for name in ("hair", "length")]]
    assert (hair[:, 0] == hair[:, 1]).all() and 0.85 < hair[:, 0].mean() < 0.95
    assert some.named[:, 0, 3:].all() and some.named[:, 0, 0].all()


def test_held_out_combinations_are_in_no_training_caption(held_out):
    train = captioned(each=1)
    assert (len(train.images), len(held_out.images)) == (7609, 1562)
    columns = [COLUMNS.index(name) for name in ("hair", "clothes", "hat")]
    combinations = held_out_combinations()
    for some, expected in (train, 0), (held_out, len(held_out.images)):
        colours = some.attributes[:, None, columns]
        assert (colours == combinations).all(axis=2).any(axis=1).sum() == expected
    seen = {image.tobytes() for image in train.images}
    assert not seen & {image.tobytes() for image in characters("held-out").images}


def test_one_s_own_caption_and_its_words():
    numbers = tokens(EXAMPLE)
    assert numbers.shape == (LONGEST,) and numbers.dtype == numpy.uint8
    assert text(numbers) == EXAMPLE.lower().replace(",", "")
    assert stated(text(numbers)) == {
        "mood": "happy", "skin": "dark", "length": "long", "hair": "red", "glasses": "glasses",
        "hat": "blue", "clothes": "green"}


@pytest.mark.parametrize("words, message", [
    ("a happy horse with wings", "has horse, wings: the words are a, and, beard"),
    ("", "1 to 24 words, not 0"), ("red " * 25, "not 25"),
])
def test_what_cannot_be_read_is_refused_in_a_sentence(words, message):
    with pytest.raises(DataError, match=message):
        tokens(words)


# ---------------------------------------------------------------- what reads it


def read(reader, *texts):
    return reader(to_device(numpy.stack([tokens(text) for text in texts]))).numpy()


def test_words_bind_a_red_hat_beside_black_hair_is_no_black_hat_beside_red_hair():
    reader = networks.CaptionReader(1 + len(WORDS))
    pair = read(reader, "a person with a red hat and black hair",
                "a person with a black hat and red hair")
    assert pair.shape == (2, 96)
    assert abs(pair[0] - pair[1]).max() > 0.3  # a bag of words would see no difference
    with_order = read(reader, "a person with black hair and a red hat")[0]
    nearer, farther = (((with_order - one) ** 2).sum() for one in pair)
    assert nearer < farther


def test_the_reader_sees_all_words_but_not_what_the_batch_has_beside_them():
    reader = networks.CaptionReader(1 + len(WORDS))
    one, more = read(reader, EXAMPLE), read(reader, "a sad figure", EXAMPLE)
    numpy.testing.assert_allclose(one[0], more[1], rtol=1e-5)
    assert (read(reader, EXAMPLE.replace("green", "white")) != one).any()


def doubles(module):
    for tensor in module.named_tensors().values():
        tensor.data = tensor.data.astype("float64")
    return module


def test_the_reader_has_the_right_derivatives():
    reader = doubles(networks.CaptionReader(9, 5, embedded=4))
    words = to_device(numpy.array([[1, 2, 3, 4, 0], [3, 8, 1, 1, 2]], numpy.uint8))
    check_gradients(lambda *weights: reader(words), *reader.parameters())


def test_conditioning_augmentation_has_the_right_derivatives_and_divergence():
    augment = doubles(networks.ConditioningAugmentation(9, 3))
    words = to_device(numpy.array([[1, 2, 3, 4, 0], [3, 8, 1, 1, 2]], numpy.uint8))
    noise = Tensor(numpy.random.default_rng(0).standard_normal((2, 3)), requires_grad=True)
    dense = augment.mean.weight, augment.log_variance.weight
    check_gradients(lambda noise, *_: augment(words, noise)[0], noise, *dense)
    check_gradients(lambda *_: augment(words, noise)[1], *dense)
    c, _ = augment(words, noise * 0.0)
    numpy.testing.assert_allclose(c.numpy(), augment.mean(augment.reader(words)).numpy())


def test_normal_divergence_is_that_of_the_integral():
    mean, log_variance = numpy.array([[0.7, 0.0]]), numpy.array([[-0.5, 0.0]])
    x, dx = numpy.linspace(-12, 12, 20001, retstep=True)
    variance = numpy.exp(-0.5)
    p = numpy.exp(-((x - 0.7) ** 2) / 2 / variance) / numpy.sqrt(2 * numpy.pi * variance)
    q = numpy.exp(-(x**2) / 2) / numpy.sqrt(2 * numpy.pi)
    expected = (p * numpy.log(p / q)).sum() * dx
    arguments = [Tensor(a, requires_grad=True) for a in (mean, log_variance)]
    numpy.testing.assert_allclose(losses.normal_divergence(*arguments).numpy(), expected)
    check_gradients(losses.normal_divergence, *arguments)


def test_d_asks_whether_a_picture_is_what_its_caption_says():
    D = doubles(networks.CaptionDiscriminator(9, 2, 1))
    words = to_device(numpy.array([[1, 2, 3, 4, 0], [3, 8, 1, 1, 2]], numpy.uint8))
    images = numpy.random.default_rng(0).standard_normal((2, 8, 8, 3))
    x = Tensor(images, requires_grad=True)
    logits = D(x, words).numpy()
    assert logits.shape == (2, 1) and (D(x, words[::-1]).numpy() != logits).all()
    D.caption.weight.data[...] = 0
    numpy.testing.assert_array_equal(D(x, words).numpy(), D(x, words[::-1]).numpy())


def test_the_discriminator_has_the_right_derivatives():
    D = doubles(networks.CaptionDiscriminator(9, 2, 1))
    words = to_device(numpy.array([[1, 2, 3, 4, 0], [3, 8, 1, 1, 2]], numpy.uint8))
    x = Tensor(numpy.random.default_rng(0).standard_normal((2, 8, 8, 3)), requires_grad=True)
    check_gradients(lambda x, *_: D(x, words), x, D.caption.weight, D.alone.weight)


# ---------------------------------------------------------------- what matches words and images

PAIR = to_device(numpy.array([[1, 2, 3, 4, 0], [3, 8, 0, 0, 0], [5, 6, 7, 1, 2]], numpy.uint8))


def small_matcher():
    images = numpy.random.default_rng(0).standard_normal((2, 4, 4, 3))
    return doubles(networks.Matcher(9, 4)), images


def test_each_word_is_read_between_its_neighbours():
    reader = doubles(networks.CaptionReader(9, 5, embedded=4))
    words = reader.words(PAIR).numpy()
    assert words.shape == (3, 5, 5)
    numpy.testing.assert_allclose(words[:, 1:-1], reader.trigrams(PAIR).numpy())
    changed = PAIR.copy()
    changed[0, 0] = 8
    moved = (reader.words(changed).numpy() != words).any(axis=2)
    assert moved[0].tolist() == [True, True, False, False, False] and not moved[1:].any()


def test_scores_are_the_formula_for_each_image_and_each_caption():
    matcher, images = small_matcher()
    scores = matcher(Tensor(to_device(images)), PAIR).numpy()
    words = (matcher.reader.words(PAIR) @ matcher.project.weight).numpy()
    seen = matcher.regions(Tensor(to_device(images))).numpy().reshape(2, 4, 4)

    def softmax(x):
        return numpy.exp(x) / numpy.exp(x).sum(axis=0)

    def unit(x):
        return x / numpy.linalg.norm(x)

    for m, regions in enumerate(seen):
        for n, count in enumerate((4, 2, 5)):
            e = [unit(word) for word in words[n, :count]]
            about = softmax(numpy.array([2 * regions @ word for word in e]))     # (T, J)
            contexts = [softmax(5 * row) @ regions for row in about]
            cosines = [unit(c) @ word for c, word in zip(contexts, e, strict=True)]
            numpy.testing.assert_allclose(scores[m, n], 20 * numpy.mean(cosines), rtol=1e-4)


def test_the_matcher_and_its_loss_have_the_right_derivatives():
    matcher, images = small_matcher()
    x = Tensor(to_device(images), requires_grad=True)
    weights = matcher.project.weight, matcher.regions.layers[0].weight
    check_gradients(lambda x, *_: matcher(x, PAIR), x, *weights)
    scores = Tensor(numpy.random.default_rng(1).standard_normal((4, 4)), requires_grad=True)
    check_gradients(losses.matching, scores)


def test_the_loss_of_who_knows_nothing_and_of_who_knows():
    nothing = losses.matching(Tensor(numpy.zeros((5, 5))))
    assert nothing.item() == pytest.approx(2 * numpy.log(5))
    assert losses.matching(Tensor(50 * numpy.eye(5))).item() < 1e-9
    # Each image knows its caption, but all captions choose the same image.
    scores = 50 * numpy.eye(3) + numpy.array([[100.0], [0], [0]])
    assert losses.matching(Tensor(scores)).item() == pytest.approx(50 * 2 / 3, rel=1e-6)


# ---------------------------------------------------------------- whether it is shown


def test_real_characters_show_what_is_named_and_others_do_not():
    some = captioned("held-out", each=1)
    images, named = from_bytes(some.images[:300]), some.named[:300, 0]
    right = metrics.named_right(images, some.attributes[:300], named)
    assert min(right.values()) > 0.98
    other = metrics.named_right(images[::-1], some.attributes[:300], named)
    assert other["all six"] < 0.05 < other["six"] < 0.6
    assert [*right] == ["skin", "length", "hair", "clothes", "hat", "glasses", "six", "all six",
                        "beard", "mood"]


def test_only_what_is_named_counts():
    some = captioned("held-out", each=1)
    wrong = some.attributes[:50].copy()
    wrong[:, 4] = 6 - wrong[:, 4]
    named = numpy.ones((50, 8), bool)
    assert metrics.named_right(from_bytes(some.images[:50]), wrong, named)["all six"] < 0.2
    named[1:, 4] = False
    assert metrics.named_right(from_bytes(some.images[:50]), wrong, named)["all six"] > 0.9


def test_halved_images_are_means_of_four_pixels():
    images = numpy.random.default_rng(0).standard_normal((2, 4, 6, 3))
    small = halved(images)
    assert small.shape == (2, 2, 3, 3)
    numpy.testing.assert_allclose(small[1, 1, 2], images[1, 2:4, 4:6].mean(axis=(0, 1)))


def test_captions_stand_below_their_rows(tmp_path):
    from PIL import Image

    images = numpy.zeros((6, 16, 16, 3), "float32")
    plots.save_captioned(images, ["a figure", "a person"], tmp_path / "rows.png")
    width, height = Image.open(tmp_path / "rows.png").size
    assert width == 3 * (3 * 17 - 1) and height == 2 * (3 * 16 + 15)


def test_r_precision_counts_the_captions_that_are_found_among_a_hundred():
    names = numpy.arange(250) % 125  # each twice

    def score(rows):
        same = (names[rows][:, None] == names[rows]).astype(float)
        return same + 1e-6 * numpy.random.default_rng(rows[0]).random(same.shape)  # rounding

    assert metrics.r_precision(score, 250) == 1  # who says the same is not held against it
    assert metrics.r_precision(lambda rows: -score(rows), 250) == 0  # others' are better
    assert 0 < metrics.r_precision(
        lambda rows: numpy.random.default_rng(rows[0]).random((100, 100)), 1000) < 0.04


def test_a_character_is_found_by_its_caption_and_another_is_not():
    some = captioned("held-out", each=1, mentioned=1)
    images, said = from_bytes(some.images), (some.attributes, some.named[:, 0])
    assert metrics.r_precision(metrics.named_score(images, *said), len(images)) > 0.99
    others = metrics.named_score(numpy.roll(images, 1, axis=0), *said)
    assert metrics.r_precision(others, len(images)) < 0.1


def test_attention_on_parts_knows_a_perfect_look_from_one_at_random():
    some = captioned("held-out", each=1, mentioned=1)
    even = numpy.full((len(some.images), LONGEST, 64), 1 / 64)
    rows = metrics.attention_on_parts(even, some)
    assert [*rows] == [f"words of {name}" for name in PHRASES]
    for row in rows.values():
        assert row["on the part"] == pytest.approx(row["its area"]) and row["times"] > 0.999
    there = (some.parts == PARTS.index("hat")).reshape(-1, 8, 2, 8, 2).all(axis=(2, 4))
    perfect = numpy.broadcast_to(there.reshape(-1, 1, 64), even.shape)
    perfect = perfect / perfect.sum(axis=2, keepdims=True).clip(1)
    rows = metrics.attention_on_parts(perfect, some)
    assert rows["words of hat"]["on the part"] > 0.9 > 0.3 > rows["words of clothes"]["on the part"]
