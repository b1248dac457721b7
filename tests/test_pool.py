"""The pool of earlier images: what goes in, what comes out, and what a resumed run finds."""

import numpy
import pytest

import tinygan
from tinygan import Tensor
from tinygan.training import ImagePool, UsageError


def batch(start, n=4):
    """Images that hold their own number."""
    numbers = numpy.arange(start, start + n, dtype="float32")
    return Tensor(numbers.reshape(n, 1, 1, 1) * numpy.ones((1, 2, 2, 1), "float32"))


def numbers(images):
    return images.numpy()[:, 0, 0, 0].tolist()


def test_the_first_images_are_kept_and_pass():
    pool = ImagePool(8, (2, 2, 1))
    assert numbers(pool.exchange(batch(0))) == [0, 1, 2, 3]
    assert numbers(pool.exchange(batch(4))) == [4, 5, 6, 7]
    assert sorted(pool.state()["images"][:, 0, 0, 0]) == list(range(8))


def test_afterwards_half_stays_and_nothing_is_lost_or_doubled():
    tinygan.seed(0)
    pool, out, given = ImagePool(8, (2, 2, 1)), [], []
    for start in range(8, 808, 4):
        given += numbers(batch(start))
        out.append(numbers(pool.exchange(batch(start))))
    kept = pool.state()["images"][:, 0, 0, 0].tolist()
    later = [n for images in out[2:] for n in images]
    assert sorted(later + kept) == sorted(given)  # the first eight passed, and stayed as well
    fresh = numpy.mean([n >= 8 + 4 * i for i, images in enumerate(out) if i >= 2 for n in images])
    assert 0.4 < fresh < 0.6


def test_what_comes_out_is_constant_and_its_own():
    pool = ImagePool(4, (2, 2, 1))
    images = Tensor(batch(0).data, requires_grad=True)
    for _ in range(3):
        assert not pool.exchange(images * 2.0).requires_grad
    assert numbers(images) == [0, 1, 2, 3]


def test_a_pool_of_none_passes_all():
    assert numbers(ImagePool(0, (2, 2, 1)).exchange(batch(3))) == [3, 4, 5, 6]


def test_a_batch_larger_than_the_pool_is_an_error():
    with pytest.raises(UsageError, match="pool of 3.*batch of 4"):
        ImagePool(3, (2, 2, 1)).exchange(batch(0))


def test_a_batch_that_does_not_divide_the_pool_fills_it():
    pool = ImagePool(6, (2, 2, 1))
    assert numbers(pool.exchange(batch(0))) + numbers(pool.exchange(batch(4))) == list(range(8))
    assert pool.held == 6


def test_a_resumed_pool_gives_the_same_images():
    first, second = (ImagePool(4, (2, 2, 1)) for _ in range(2))
    first.exchange(batch(0))
    second.load_state(first.state())
    outcomes = []
    for pool in (first, second):
        tinygan.seed(5)
        outcomes.append(numbers(pool.exchange(batch(10))))
    assert outcomes[0] == outcomes[1]


def test_a_state_that_cannot_be_is_refused():
    pool = ImagePool(4, (2, 2, 1))
    with pytest.raises(ValueError, match="holds 4, not 5"):
        pool.load_state(pool.state() | {"held": numpy.array(5)})
    with pytest.raises(ValueError, match="images"):
        pool.load_state(ImagePool(3, (2, 2, 1)).state())
