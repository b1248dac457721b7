"""Photographs: what ships, their small versions, crops, and what enlargements are measured by."""

import json

import numpy
import pytest
from PIL import Image

from tinygan import datasets, metrics, plots, training
from tinygan.backend import to_device, to_host
from tinygan.datasets import Crops, DataError, from_bytes, reduced
from tinygan.layers import Conv2d, Sequential, Upsample
from tinygan.metrics import photographs as figures

BICUBIC = Image.Resampling.BICUBIC


def noise(*shape, seed=0):
    return numpy.random.default_rng(seed).integers(256, size=shape).astype(numpy.uint8)


@pytest.fixture(scope="module")
def held_out():
    return datasets.photographs("held-out")


def enlarged_by_pillow(photograph, method):
    height, width = photograph.shape[:2]
    low = Image.fromarray(photograph).resize((width // 4, height // 4), BICUBIC)
    return from_bytes(numpy.asarray(low.resize((width, height), method)))


# ---------------------------------------------------------------- data


def test_eight_photographs_to_train_on_and_three_held_out(held_out):
    train = datasets.photographs()
    assert [*train] == ["rocket", "hubble_deep_field", "retina", "brick", "grass", "gravel",
                        "camera", "ihc"]
    assert [*held_out] == ["astronaut", "chelsea", "coffee"]
    for photograph in [*train.values(), *held_out.values()]:
        assert photograph.dtype == numpy.uint8 and photograph.shape[2] == 3
        assert max(photograph.shape) == 256
    with pytest.raises(DataError, match="'test'"):
        datasets.photographs("test")


def test_photographs_of_one_s_own_are_squares_of_a_folder(tmp_path):
    Image.fromarray(noise(40, 60, 3)).save(tmp_path / "a.png")
    (photograph,) = datasets.load_photographs(f"folder:{tmp_path}", size=32)
    assert photograph.shape == (32, 32, 3)
    assert len(datasets.load_photographs("photos")) == 8
    with pytest.raises(DataError, match="'mnist'.*folder:PATH"):
        datasets.load_photographs("mnist")


@pytest.mark.parametrize("size", [(5, 3), (20, 12), (13, 50)])
def test_bicubic_is_pillow_s(size):
    image = noise(20, 12, 3).astype("float32")
    expected = [Image.fromarray(image[..., i]).resize(size[::-1], BICUBIC) for i in range(3)]
    got = to_host(datasets.bicubic(to_device(image[None]), *size))
    assert got.dtype == numpy.float32
    numpy.testing.assert_allclose(got[0], numpy.stack(expected, axis=2), atol=1e-3)


def test_a_small_photograph_is_pillow_s_bicubic_but_for_rounding():
    photograph = datasets.photographs()["camera"]
    expected = Image.fromarray(photograph).resize((64, 64), BICUBIC)
    difference = reduced(photograph).astype(int) - numpy.asarray(expected)
    assert abs(difference).max() <= 2 and (difference != 0).mean() < 0.2
    assert reduced(noise(23, 18, 3)).shape == (5, 4, 3)  # what is beyond a multiple is cut off
    assert datasets.enlarged(noise(5, 4, 3)).shape == (20, 16, 3)


def test_the_two_crops_show_the_same():
    crops = Crops([*datasets.photographs("held-out").values()], batch_size=8, size=32, seed=1)
    low, high = (to_host(images) for images in next(crops))
    assert low.shape == (8, 8, 8, 3) and high.shape == (8, 32, 32, 3)
    for small, large in zip(low, high, strict=True):
        inner = reduced(large).astype(int)[2:-2, 2:-2] - small[2:-2, 2:-2]
        assert abs(inner).max() <= 2  # but for the border, behind which the small one has seen
    assert len({image.tobytes() for image in high}) == 8


def test_a_crop_may_begin_at_any_pixel_and_be_turned_and_mirrored():
    """In this photograph a pixel's colour is its place: red its row, green its column."""
    rows, columns = numpy.indices((40, 48))
    photograph = numpy.stack([rows * 4, columns * 4, 0 * rows], axis=2).astype(numpy.uint8)
    crops = Crops([photograph], batch_size=64, size=16)
    high = to_host(next(crops)[1])[..., :2].astype(int) // 4
    assert {*range(4)} == {*(high[..., 0].min(axis=(1, 2)) % 4)}
    assert {*range(4)} == {*(high[..., 1].min(axis=(1, 2)) % 4)}
    ways = {(*(crop[0, -1] - crop[0, 0]), *(crop[-1, 0] - crop[0, 0])) for crop in high}
    assert len(ways) == 8


def test_crops_go_on_where_a_run_was_stopped():
    photographs = [noise(30, 30, 3), noise(40, 35, 3, seed=1)]
    one, other = (Crops(photographs, batch_size=3, size=16, seed=5) for _ in range(2))
    next(one)
    other.load_state(one.state())
    for a, b in zip(next(one), next(other), strict=True):
        assert numpy.array_equal(to_host(a), to_host(b))
    with pytest.raises(ValueError, match="drawn"):
        one.load_state({})


@pytest.mark.parametrize(("size", "side"), [(48, 50), (30, 60)])
def test_crops_that_do_not_fit_are_one_sentence(size, side):
    with pytest.raises(DataError, match=rf"{size} x {size}.*multiple of 4"):
        Crops([noise(side, side, 3)], batch_size=1, size=size)


def test_a_photograph_too_small_for_a_crop_is_left_out():
    assert len(Crops([noise(20, 60, 3), noise(60, 60, 3)], batch_size=1, size=48).pairs) == 1


def test_a_picture_may_keep_its_size(tmp_path):
    image = noise(7, 11, 3)
    Image.fromarray(image).save(tmp_path / "a.png")
    assert numpy.array_equal(datasets.picture(tmp_path / "a.png", None, 3), image)
    assert datasets.picture(tmp_path / "a.png", None, 1).shape == (7, 11, 1)


# ---------------------------------------------------------------- in tiles


@pytest.mark.parametrize("size", [(5, 7), (16, 16), (37, 20)])
def test_tiles_give_what_the_whole_gives(size):
    network = Sequential(Conv2d(3, 4, kernel=3, padding=1, scale=0.3), Upsample(2),
                         Conv2d(4, 3, kernel=3, padding=1, scale=0.3))
    picture = noise(*size, 3)
    whole = datasets.to_bytes(training.apply(network, from_bytes(picture[None])))[0]
    tiled = training.apply_in_tiles(network, picture, factor=2, tile=8, margin=2)
    assert tiled.dtype == numpy.uint8 and tiled.shape == whole.shape
    assert abs(tiled.astype(int) - whole).max() <= 1
    blind = training.apply_in_tiles(network, picture, factor=2, tile=8, margin=0)
    assert (max(size) <= 8) == (abs(blind.astype(int) - whole).max() <= 1)  # the seams show


def test_a_tile_is_all_that_is_in_memory_at_a_time():
    seen = []

    def network(x):
        seen.append(x.shape)
        return x

    training.apply_in_tiles(network, noise(30, 50, 3), tile=16, margin=4)
    assert len(seen) == 2 * 4 and max(shape[1:3] for shape in seen) == (20, 24)


# ---------------------------------------------------------------- figures, pixel by pixel


def test_black_and_white_have_the_standard_s_luma():
    levels = numpy.array([-1, 1])[:, None, None] * numpy.ones((1, 1, 3))
    numpy.testing.assert_allclose(figures.luma(levels)[:, 0], [16, 235], atol=1e-9)
    colours = 2 * numpy.eye(3)[None] - 1  # red, green, blue: the table of BT.601 in bytes
    numpy.testing.assert_allclose(figures.luma(colours)[0], [81, 145, 41], atol=0.6)


def test_psnr_by_hand_and_without_the_border():
    truth = numpy.zeros((20, 20, 3))
    made = truth + 2 * 10 / 219  # the luma is 10 levels brighter
    assert metrics.psnr(made, truth) == pytest.approx(20 * numpy.log10(25.5))
    made[:4], made[:, -4:] = 1, -1
    assert metrics.psnr(made, truth) == pytest.approx(20 * numpy.log10(25.5))
    assert metrics.psnr(truth, truth) == numpy.inf


def test_the_floors_are_the_published_ones(held_out):
    """Pillow's bicubic, both ways, as every comparison on these photographs has it."""
    for method, expected in ((BICUBIC, [23.70, 29.59, 26.00]),
                             (Image.Resampling.NEAREST, [22.08, 27.81, 24.36])):
        found = [metrics.psnr(enlarged_by_pillow(photograph, method), from_bytes(photograph))
                 for photograph in held_out.values()]
        numpy.testing.assert_allclose(found, expected, atol=0.006)


def test_structural_similarity_of_two_constants_is_its_first_factor():
    x, y = numpy.full((2, 20, 20), [[[100.0]], [[150.0]]])
    a = 2.55**2
    assert figures.structural_similarity(x, x) == pytest.approx(1)
    assert figures.structural_similarity(x, y) == pytest.approx(
        (2 * 100 * 150 + a) / (100**2 + 150**2 + a))


def test_structural_similarity_of_an_image_and_its_negative_is_the_formula_s():
    """Around the same mean m the covariance is -v, so that a pixel has (b - 2 v) / (b + 2 v)."""
    x = numpy.indices((30, 30)).sum(axis=0) % 2 * 60.0 + 98
    assert figures.structural_similarity(x, 256 - x) == pytest.approx(
        (7.65**2 - 2 * 30**2) / (7.65**2 + 2 * 30**2), abs=2e-4)


def test_structural_similarity_is_scikit_image_s(held_out):
    """0.26.0: gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255."""
    expected = [0.7493658745612942, 0.7698048219012413, 0.73628451357976]
    found = [metrics.ssim(enlarged_by_pillow(photograph, BICUBIC), from_bytes(photograph))
             for photograph in held_out.values()]
    numpy.testing.assert_allclose(found, expected, rtol=1e-6)


# ---------------------------------------------------------------- figures of texture


@pytest.fixture(scope="module")
def ways(held_out):
    """The held-out photographs, true and in ways that a figure should tell from them."""
    bicubic = [enlarged_by_pillow(photograph, BICUBIC) for photograph in held_out.values()]
    truth = [from_bytes(photograph) for photograph in held_out.values()]
    return {
        "truth": truth, "bicubic": bicubic, "moved": [numpy.roll(x, 2, axis=1) for x in truth],
        "blocks": [enlarged_by_pillow(photograph, Image.Resampling.NEAREST)
                   for photograph in held_out.values()],
        "half as blurred": [(a + b) / 2 for a, b in zip(truth, bicubic, strict=True)],
    }


def test_the_plain_patch_distance_takes_blocks_for_sharp(ways):
    distance = {way: metrics.patch_distance(made, ways["truth"]) for way, made in ways.items()}
    assert distance["truth"] == pytest.approx(0, abs=1e-6)
    assert distance["bicubic"] == pytest.approx(0.247, abs=0.002)
    assert distance["blocks"] == pytest.approx(0.105, abs=0.002)  # though a worse photograph


def test_neither_a_blur_nor_blocks_have_the_texture_of_the_truth(ways):
    distance = {way: metrics.texture_distance(made, ways["truth"]) for way, made in ways.items()}
    assert max(distance["truth"], distance["moved"]) < 0.003
    assert 0.05 < distance["half as blurred"] < 0.2
    assert distance["bicubic"] == pytest.approx(0.588, abs=0.005)
    assert distance["blocks"] == pytest.approx(0.970, abs=0.005)
    flat = [0 * photograph for photograph in ways["truth"]]
    assert metrics.texture_distance(flat, ways["truth"]) == pytest.approx(1, abs=0.01)


def test_over_all_phases_together_blocks_would_pass(ways):
    """Why texture_distance goes phase by phase."""
    def together(photographs):
        slopes = [figures._slopes(photograph) for photograph in photographs]
        return numpy.concatenate([patches.reshape(-1, 32) for patches in slopes])

    true = together(ways["truth"])
    distance = {way: metrics.frechet_distance(together(ways[way]), true) / true.var(0).sum()
                for way in ("blocks", "bicubic")}
    assert distance["blocks"] < distance["bicubic"] / 2


def test_slopes_by_hand():
    rows, columns = numpy.indices((20, 21))
    photograph = numpy.stack([(2 * rows + 5 * columns) / 219 * 2] * 3, axis=2)  # in levels of luma
    slopes = figures._slopes(photograph)
    assert slopes.shape == (20 - 8 - 1 - 3, 21 - 8 - 1 - 3, 32)
    numpy.testing.assert_allclose(slopes.reshape(-1, 2, 16), [[[5] * 16, [2] * 16]] * 72, atol=1e-9)


def test_the_gradient_ratio_is_that_of_contrast(ways):
    truth = ways["truth"]
    assert metrics.gradient_ratio(truth, truth) == 1
    assert metrics.gradient_ratio([x / 4 for x in truth], truth) == pytest.approx(0.25)
    assert metrics.gradient_ratio(ways["bicubic"], truth) == pytest.approx(0.457, abs=0.002)


def test_a_pattern_of_period_four_is_found_and_no_other(ways):
    truth = ways["truth"]
    rows, columns = numpy.indices(truth[0].shape[:2])

    def with_pattern(period):
        dots = 0.2 * ((rows % period == 0) & (columns % period == 0))
        return metrics.period_pattern([truth[0] + dots[..., None]])

    assert metrics.period_pattern(truth) == pytest.approx(0.0175, abs=1e-3)
    assert metrics.period_pattern(ways["bicubic"]) == pytest.approx(0.0064, abs=1e-3)
    assert with_pattern(4) > 0.3 and with_pattern(5) < 0.03


# ---------------------------------------------------------------- the report and its picture


def test_the_report_has_its_floors_and_its_ceiling(tmp_path, capsys):
    metrics.report_photographs(tmp_path, {"mine": datasets.enlarged})
    rows = json.loads((tmp_path / "figures.json").read_text())
    assert [*rows] == ["blocks", "bicubic", "mine", "truth"]
    assert rows["mine"] == rows["bicubic"]
    assert rows["bicubic"]["coffee"] == pytest.approx(26.00, abs=0.01)
    assert rows["truth"]["SSIM"] == 1 and "PSNR" not in rows["truth"]
    with numpy.load(tmp_path / "figures.npz") as arrays:
        assert len(arrays.files) == 12 and arrays["mine chelsea"].shape == (160, 256, 3)
    assert numpy.asarray(Image.open(tmp_path / "photographs.png")).shape[1] == 4 * 256 + 3 * 6
    assert "PSNR" in capsys.readouterr().out


def test_pieces_are_a_row_for_each_photograph(tmp_path):
    pieces = metrics.PhotographPieces(Upsample(4))
    pieces.draw(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (3 * (3 * 96 + 2), 3 * (3 * 96 + 2))


def test_a_comparison_shows_every_pixel_as_it_is(tmp_path):
    one, other = noise(30, 40, 3), noise(50, 60, 3, seed=1)
    plots.save_comparison({"left": [one, other], "right": [one, other]},
                          {"left": ["a", "b"], "right": ["", ""]}, tmp_path / "a.png")
    picture = numpy.asarray(Image.open(tmp_path / "a.png"))
    assert picture.shape == (18 + 30 + 24 + 50 + 24, 2 * 66 - 6, 3)
    for left in (0, 66):
        assert numpy.array_equal(picture[18:48, left : left + 40], one)
        assert numpy.array_equal(picture[72:122, left : left + 60], other)
    assert (picture[50:66, :60] < 128).any() and (picture[50:66, 66:] == 255).all()
