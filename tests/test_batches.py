"""Batches of rows in an order that a resumed run finds again; pixels to numbers and back."""

import itertools

import numpy
import pytest

from tinygan import plots
from tinygan.backend import to_device, to_host
from tinygan.datasets import Batches, DataError, from_bytes, to_bytes

NUMBERS = numpy.arange(10)


def drawn(batches, count):
    return [[to_host(array).tolist() for array in batch]
            for batch in itertools.islice(batches, count)]


def test_rows_of_several_arrays_belong_together():
    for first, second in drawn(Batches(NUMBERS, 2 * NUMBERS, batch_size=4), 5):
        assert len(first) == 4 and [2 * x for x in first] == second


def test_an_epoch_has_each_row_once_and_drops_the_rest():
    batches = Batches(NUMBERS, batch_size=3)
    assert len(batches) == 3
    epochs = [[x for (batch,) in drawn(batches, 3) for x in batch] for _ in range(3)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]  # each in an order of its own


def test_the_order_depends_on_the_seed_alone():
    one, again, other = (drawn(Batches(NUMBERS, batch_size=4, seed=s), 6) for s in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize("count", range(8))
def test_what_is_resumed_goes_on_as_if_nothing_had_happened(count):
    whole, stopped, resumed = (Batches(NUMBERS, batch_size=3, seed=5) for _ in range(3))
    drawn(stopped, count)
    resumed.load_state(stopped.state())
    assert drawn(whole, count + 5)[count:] == drawn(resumed, 5)


def test_going_back_gives_the_same_batches_again():
    batches = Batches(NUMBERS, batch_size=3)
    before = batches.state()
    first = drawn(batches, 7)
    batches.load_state(before)
    assert drawn(batches, 7) == first


@pytest.mark.parametrize(
    ("arrays", "size", "words"),
    [
        ([NUMBERS], 11, "a batch of 11 from 10 examples"),
        ([NUMBERS], 0, "a batch of 0 from 10"),
        ([NUMBERS, NUMBERS[:9]], 2, r"equal length.*\[9, 10\]"),
    ],
)
def test_what_does_not_fit_is_named(arrays, size, words):
    with pytest.raises(DataError, match=words):
        Batches(*arrays, batch_size=size)


def test_a_state_of_something_else_is_refused():
    for wrong in ({}, {"drawn": numpy.array(-1)}, {"drawn": numpy.array(0.5)}):
        with pytest.raises(ValueError, match="drawn"):
            Batches(NUMBERS, batch_size=2).load_state(wrong)


def test_pixels_become_numbers_from_minus_one_to_one_and_bytes_again():
    pixels = to_device(numpy.arange(256, dtype="uint8"))
    numbers = to_host(from_bytes(pixels))
    assert numbers.dtype == "float32" and numbers[0] == -1 and numbers[255] == 1
    assert to_bytes(from_bytes(pixels)).tolist() == list(range(256))
    assert to_bytes(numpy.float32([-7, 7])).tolist() == [0, 255]
    assert to_host(pixels).tolist() == list(range(256))  # left as they were


RAMP = numpy.linspace(0, 1, 6).reshape(6, 1, 1, 1)


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "uint16", "int64", "int8",
                                  "bool"])
def test_pixels_of_another_dtype_are_refused_and_named(kind):
    batches = Batches(RAMP.astype(kind), batch_size=2)
    with pytest.raises(DataError, match=f"uint8 from 0 to 255, not {kind}: .*255 \\* images"):
        from_bytes(next(batches)[0])


def test_what_the_refusal_advises_gives_the_right_pixels():
    given = from_bytes((255 * RAMP).round().astype("uint8"))
    numpy.testing.assert_allclose(given, 2 * RAMP - 1, atol=1e-6)
    with pytest.raises(DataError, match="not list"):
        from_bytes([0, 255])


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int64", "bool"])
def test_images_that_are_no_floats_do_not_become_bytes(kind, tmp_path):
    with pytest.raises(DataError, match=f"floats in \\[-1, 1\\], not {kind}: from_bytes"):
        to_bytes(to_device(RAMP.astype(kind)))
    with pytest.raises(DataError, match=f"not {kind}"):
        plots.save_grid(RAMP.astype(kind), tmp_path / "grid.png")
    assert not list(tmp_path.iterdir())
    assert to_bytes(numpy.float16([-1, 1])).tolist() == [0, 255]
