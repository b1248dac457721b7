"""Emoji as outlines and in colour; folders of pairs, and of two kinds of images."""

import warnings

import numpy
import pytest
from PIL import Image

from tinygan import datasets
from tinygan.datasets import DataError


def write(path, colour, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def in_two_folders(path, names, second=".png"):
    """A black source and a red target of each name, except that the first bytes count them."""
    for number, name in enumerate(names):
        write(path / "a" / f"{name}.png", (number, number, number))
        write(path / "b" / f"{name}{second}", (200, number, 0))
    return f"folder:{path}"


def side_by_side(path, count):
    """Left grey, right (200, number, 0), twelve pixels high."""
    path.mkdir(exist_ok=True)
    for number in range(count):
        pixels = numpy.full((12, 24, 3), number, numpy.uint8)
        pixels[:, 12:] = (200, number, 0)
        Image.fromarray(pixels).save(path / f"{number:02}.png")
    return f"folder:{path}"


# The emoji that ship with the package.


@pytest.mark.parametrize("part, count", [("train", 3716), ("held-out", 368)])
def test_shipped_emoji_have_their_counts_and_types(part, count):
    sources, targets = datasets.emoji(part)
    assert sources.shape == (count, 32, 32, 1) and targets.shape == (count, 32, 32, 3)
    assert sources.dtype == targets.dtype == numpy.uint8
    assert sources.mean() > 180  # ink on white


def test_an_emoji_is_black_where_its_outline_is():
    sources, targets = datasets.emoji("held-out")
    ink = targets[sources[..., 0] < 20]
    assert len(ink) > 10_000 and numpy.median(ink) < 20


def test_no_outline_of_the_held_out_emoji_was_trained_on():
    train, held_out = ({image.tobytes() for image in datasets.emoji(part).sources}
                       for part in ("train", "held-out"))
    assert not train & held_out


def test_emoji_are_painted_in_the_colours_of_the_palette():
    palette = datasets.emoji_palette()
    assert palette.shape == (28, 3) and palette.dtype == numpy.uint8
    assert palette[:2].tolist() == [[0, 0, 0], [255, 255, 255]]
    assert len({*map(tuple, palette.tolist())}) == 28
    pixels = datasets.emoji("held-out").targets.reshape(-1, 1, 3).astype(int)
    exact = (pixels == palette).all(axis=2).any(axis=1)
    assert 0.6 < exact.mean() < 1  # the others lie on edges


def test_emoji_come_in_one_size():
    with pytest.raises(DataError, match="not 64 x 64: size is for a folder"):
        datasets.pairs("emoji", size=64)


# Pairs of one's own.


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpeg"])
def test_two_subfolders_with_the_same_names_make_pairs(tmp_path, suffix):
    name = in_two_folders(tmp_path, ["x", "sub/y", "sub/z"], suffix)
    train, held_out = (datasets.pairs(name, part, size=4) for part in ("train", "held-out"))
    assert train.sources.shape == (2, 4, 4, 1) and train.targets.shape == (2, 4, 4, 3)
    assert held_out.sources[:, 0, 0, 0].tolist() == [1]  # sub/y is the first by name
    assert train.sources[:, 0, 0, 0].tolist() == [2, 0]
    numpy.testing.assert_allclose(train.targets[:, 0, 0], [[200, 2, 0], [200, 0, 0]], atol=3)


def test_images_side_by_side_make_pairs_with_the_source_on_the_left(tmp_path):
    name = side_by_side(tmp_path, 11)
    train, held_out = (datasets.pairs(name, part, size=6) for part in ("train", "held-out"))
    assert held_out.sources[:, 0, 0, 0].tolist() == [0, 10]
    for number, (source, target) in enumerate(zip(*train, strict=True), start=1):
        assert (source == number).all() and (target == (200, number, 0)).all()  # up to the seam


@pytest.mark.parametrize("count", [2, 10, 11, 30])
def test_every_tenth_pair_is_held_out_and_all_are_used_once(tmp_path, count):
    name = side_by_side(tmp_path, count)
    parts = [datasets.pairs(name, part, size=2).sources[:, 0, 0, 0].tolist()
             for part in ("train", "held-out")]
    assert sorted(parts[0] + parts[1]) == list(range(count))
    assert len(parts[1]) == -(-count // 10)


def test_a_name_without_a_partner_is_left_out_with_a_warning(tmp_path):
    name = in_two_folders(tmp_path, "xyz")
    (tmp_path / "b" / "y.png").unlink()
    with pytest.warns(UserWarning, match="1 images .* no partner, such as y"):
        assert len(datasets.pairs(name, size=4).sources) == 1


def test_names_that_never_agree_are_an_error(tmp_path):
    in_two_folders(tmp_path, "xy")
    for file in (tmp_path / "b").iterdir():
        file.rename(file.with_stem(f"photo of {file.stem}"))
    with pytest.raises(DataError, match="give both images of a pair the same name"):
        datasets.pairs(f"folder:{tmp_path}")


@pytest.mark.parametrize("which", ["a", "b"])
def test_a_broken_image_takes_its_partner_with_it(tmp_path, which):
    name = in_two_folders(tmp_path, "vxyz")
    (tmp_path / which / "y.png").write_bytes(b"nonsense")
    with pytest.warns(UserWarning, match=rf"1 of 3 images cannot be read: .*{which}.y\.png"):
        sources, targets = datasets.pairs(name, size=4)
    assert sources[:, 0, 0, 0].tolist() == targets[:, 0, 0, 1].tolist() == [1, 3]


def test_an_image_that_is_no_pair_side_by_side_is_named(tmp_path):
    name = side_by_side(tmp_path, 3)
    write(tmp_path / "square.png", 0, (9, 9))
    with pytest.warns(UserWarning, match=r"square\.png.*9 x 9 is not twice as wide as high"):
        assert len(datasets.pairs(name, size=4).sources) == 2


def test_a_jpeg_side_by_side_is_cut_before_it_is_made_smaller(tmp_path):
    pixels = numpy.zeros((256, 512, 3), numpy.uint8)
    pixels[:, 256:] = 255
    for number in range(2):
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg", quality=95)
    sources, targets = datasets.pairs(f"folder:{tmp_path}", size=16)
    assert sources.max() < 3 and targets.min() > 252


# Two kinds of images, unpaired.


def test_two_subfolders_of_different_images(tmp_path):
    for number in range(12):
        write(tmp_path / "apples" / f"{number:02}.png", (number, 0, 0))
    for number in range(3):
        write(tmp_path / "oranges" / f"{number}.jpg", (0, 0, 200))
    train, held_out = (datasets.unpaired(f"folder:{tmp_path}", part, size=4)
                       for part in ("train", "held-out"))
    assert [len(images) for images in (*train, *held_out)] == [10, 2, 2, 1]
    assert held_out.sources[:, 0, 0, 0].tolist() == [0, 10]


def test_the_sets_of_cyclegan_bring_their_own_split(tmp_path):
    for name, count in {"trainA": 3, "trainB": 2, "testA": 1, "testB": 1}.items():
        for number in range(count):
            write(tmp_path / name / f"{number}.jpg", (9, 9, 9))
    train, held_out = (datasets.unpaired(f"folder:{tmp_path}", part, size=4)
                       for part in ("train", "held-out"))
    assert [len(images) for images in (*train, *held_out)] == [3, 2, 1, 1]


# What is refused.


@pytest.mark.parametrize("load", [datasets.pairs, datasets.unpaired])
@pytest.mark.parametrize("name", ["", "mnist", "folder", "folder:", "Emoji"])
def test_an_unknown_name_lists_the_choices(load, name):
    with pytest.raises(DataError, match="unknown data.*use .*folder:PATH"):
        load(name)


@pytest.mark.parametrize("load", [datasets.pairs, datasets.unpaired])
def test_what_is_no_folder_of_two_is_refused(load, tmp_path):
    with pytest.raises(DataError, match="cannot be read as a folder"):
        load(f"folder:{tmp_path}/missing")
    for name in "abc":
        write(tmp_path / name / "x.png", 0)
    with pytest.raises(DataError, match="has 3 subfolders: expected two"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize("load", [datasets.pairs, datasets.unpaired])
def test_one_example_cannot_be_split(load, tmp_path):
    with pytest.raises(DataError, match="expected more"):
        load(in_two_folders(tmp_path, "x"))


@pytest.mark.parametrize("load", [datasets.pairs, datasets.unpaired])
@pytest.mark.parametrize("wrong", [{"size": 0}, {"part": "test"}])
def test_wrong_sizes_and_parts_are_refused(load, wrong, tmp_path):
    with pytest.raises(DataError, match="expected size|unknown part"):
        load(in_two_folders(tmp_path, "xy"), **wrong)


def test_hidden_folders_and_other_files_do_not_count(tmp_path):
    name = in_two_folders(tmp_path, "xy")
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(datasets.pairs(name, size=4).sources) == 1
