"""Shipped digits, IDX files and image folders, whole and damaged; points in the plane."""

import functools
import gzip
import tracemalloc
import zlib
from pathlib import Path

import numpy
import pytest
from PIL import Image

import tinygan
from tinygan import datasets
from tinygan.backend import UsageError, to_host
from tinygan.datasets import DataError, folder, folders, load, mnist, read_idx


def idx(array):
    """The bytes of an IDX file."""
    sizes = numpy.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


# The digits that ship with the package.


@pytest.mark.parametrize("part, count", [("train", 9000), ("held-out", 1000)])
def test_shipped_digits_have_their_counts_types_and_all_classes(part, count):
    images, labels = mnist(part)
    assert images.shape == (count, 28, 28, 1) and images.dtype == numpy.uint8
    assert labels.shape == (count,) and labels.dtype == numpy.uint8
    frequencies = numpy.bincount(labels, minlength=10) / count
    assert len(frequencies) == 10 and 0.085 < frequencies.min() <= frequencies.max() < 0.13


def test_shipped_digits_look_like_digits():
    images, labels = mnist()
    assert images.min() == 0 and images.max() == 255
    assert not images[:, 0].any(), "MNIST leaves the outermost row blank"
    means = numpy.stack([images[labels == digit].mean(0) for digit in range(10)]).reshape(10, -1)
    held_out, truth = mnist("held-out")
    distance = ((held_out.reshape(-1, 1, 784) - means) ** 2).sum(2)
    assert (distance.argmin(1) == truth).mean() > 0.75, "the nearest mean finds most digits"


def test_the_parts_of_the_shipped_digits_share_no_image():
    train, held_out = (
        {image.tobytes() for image in mnist(part).images} for part in ("train", "held-out")
    )
    assert not train & held_out


def test_load_finds_the_shipped_digits_by_name():
    assert numpy.array_equal(load("mnist").images, mnist().images)


@pytest.mark.parametrize("name", ["cifar", "", "folder", "folder:", "MNIST", "mnist:x"])
def test_an_unknown_name_lists_the_choices(name):
    with pytest.raises(DataError, match="use mnist, characters, mnist-full, fashion or folder:"):
        load(name)


@pytest.mark.parametrize("read", [
    mnist, datasets.characters, functools.partial(datasets.original, "mnist-full"),
    functools.partial(datasets.original, "fashion"),
])
def test_an_unknown_part_is_refused(read):
    with pytest.raises(DataError, match="'test'"):
        read("test")


def test_a_data_error_is_one_that_the_user_can_mend():
    assert issubclass(DataError, UsageError)


@pytest.mark.parametrize("wrong", [{"size": 32}, {"channels": 3}])
def test_images_of_another_size_than_the_set_has_are_refused(wrong):
    with pytest.raises(DataError, match=r"\(28, 28, 1\).*--size 28 --channels 1 are for a folder"):
        load("mnist", **wrong)


# IDX files.

PICTURES = numpy.arange(2 * 3 * 4, dtype=numpy.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("array", [PICTURES, numpy.array([3, 9], numpy.uint8)])
def test_an_idx_file_is_read_back_packed_or_not(tmp_path, pack, array):
    path = tmp_path / "file"
    path.write_bytes(pack(idx(array)))
    assert numpy.array_equal(read_idx(path), array)
    assert read_idx(path).dtype == numpy.uint8


GOOD = idx(PICTURES)
HUGE = b"\0\0\x08\x03" + b"\xff" * 12
MALFORMED = {
    "empty": (b"", "starts with nothing"),
    "text": (b"<html>", "starts with 3c 68 74 6d: expected an IDX file"),
    "floats": (b"\0\0\x0d\x01" + GOOD[4:], "starts with 00 00 0d 01"),
    "two dimensions": (b"\0\0\x08\x02" + GOOD[4:], "starts with 00 00 08 02"),
    "little-endian": (GOOD[3::-1] + GOOD[4:], "starts with 03 08 00 00"),
    "cut magic number": (GOOD[:3], "starts with 00 00 08"),
    "cut header": (GOOD[:15], "expected a header, found 0 elements"),
    "no elements": (GOOD[:16], r"expected \(2, 3, 4\), found 0 elements"),
    "one element short": (GOOD[:-1], r"expected \(2, 3, 4\), found 23 elements"),
    "trailing byte": (GOOD + b"\0", r"expected \(2, 3, 4\), found 25 elements"),
    "no image": (idx(PICTURES[:0]), r"claims \(0, 3, 4\)"),
    "no width": (idx(PICTURES[:, :, :0]), r"claims \(2, 3, 0\)"),
    "2^96 elements": (HUGE, r"claims \(4294967295, 4294967295, 4294967295\)"),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_idx_file_is_named_with_what_was_found(tmp_path, kind, pack):
    content, message = MALFORMED[kind]
    path = tmp_path / "digits"
    path.write_bytes(pack(content))
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(caught.value).startswith(str(path))


def test_a_gzip_stream_that_ends_early_is_an_error_wherever_it_is_cut(tmp_path):
    content = gzip.compress(GOOD)
    path = tmp_path / "digits.gz"
    for length in range(2, len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match="digits.gz cannot be read"):
            read_idx(path)


def test_gzip_with_a_wrong_sum_or_damaged_codes_is_an_error(tmp_path):
    path = tmp_path / "digits.gz"
    for position in (-8, -4, 10, 14):  # its sum, its length, its codes
        content = bytearray(gzip.compress(GOOD))
        content[position] ^= 0xFF
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            read_idx(path)


def peak_memory(path):
    tracemalloc.start()
    with pytest.raises(DataError):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_is_bounded_by_what_is_there_not_by_what_is_promised(tmp_path):
    path = tmp_path / "digits"
    path.write_bytes(b"\0\0\x08\x03" + b"\0\0\x04\0" * 3)  # 2^30 elements
    assert peak_memory(path) < 8e6
    path.write_bytes(gzip.compress(GOOD + bytes(100_000_000), 1))  # 24 elements promised
    assert peak_memory(path) < 8e6


def test_a_folder_or_a_missing_file_in_place_of_an_idx_file_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError, match="cannot be read"):
            read_idx(path)


# The four original files in a folder of one's own.

DIGITS = numpy.arange(2 * 28 * 28).astype(numpy.uint8).reshape(2, 28, 28)


def write_originals(place, images, labels, image_name="train-images-idx3-ubyte.gz"):
    place.mkdir(exist_ok=True)
    content = idx(images)
    packed = gzip.compress(content) if image_name.endswith(".gz") else content
    (place / image_name).write_bytes(packed)
    (place / "train-labels-idx1-ubyte").write_bytes(idx(numpy.array(labels, numpy.uint8)))


@pytest.mark.parametrize("ending", ["-idx3-ubyte", ".idx3-ubyte"])
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("name", ["mnist-full", "fashion"])
def test_original_files_are_read_from_data_dir_under_their_usual_names(
    tmp_path, name, packed, ending
):
    write_originals(tmp_path, DIGITS, [4, 9], "train-images" + ending + packed)
    images, labels = load(name, tmp_path)
    assert numpy.array_equal(images, DIGITS[..., None]) and labels.tolist() == [4, 9]


def test_original_files_are_also_found_in_the_subfolder_of_their_set(tmp_path):
    write_originals(tmp_path / "fashion", DIGITS, [1, 2])
    assert load("fashion", tmp_path).labels.tolist() == [1, 2]


def test_original_files_are_found_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "tinygan").mkdir()
    write_originals(tmp_path / "tinygan" / "mnist-full", DIGITS, [1, 2])
    assert load("mnist-full").labels.tolist() == [1, 2]


def test_as_many_labels_as_images(tmp_path):
    write_originals(tmp_path, DIGITS, [1, 2, 3])
    with pytest.raises(DataError, match=r"\(2, 28, 28\).*\(3,\).*belong together"):
        load("mnist-full", tmp_path)


def test_labels_in_place_of_images(tmp_path):
    write_originals(tmp_path, numpy.array([1, 2], numpy.uint8), [1, 2])
    with pytest.raises(DataError, match="belong together"):
        load("mnist-full", tmp_path)


def test_a_label_above_nine_is_an_error(tmp_path):
    write_originals(tmp_path, DIGITS, [1, 10])
    with pytest.raises(DataError, match="labels-idx1-ubyte holds the label 10: expected 0 to 9"):
        load("fashion", tmp_path)


# Image folders.


def picture(width, height, mode="RGB"):
    """Left half black, right half white, a red stripe on the far left."""
    pixels = numpy.zeros((height, width, 3), numpy.uint8)
    pixels[:, width // 2 :] = 255
    pixels[:, 0] = (255, 0, 0)
    return Image.fromarray(pixels).convert(mode)


def test_a_folder_gives_its_images_sorted_by_path_from_all_subfolders(tmp_path):
    (tmp_path / "b").mkdir()
    for name, grey in (("c.png", 30), ("b/z.JPG", 20), ("a.jpeg", 10)):
        Image.new("L", (8, 8), grey).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    images, labels = load(f"folder:{tmp_path}", size=4)
    assert images.shape == (3, 4, 4, 1) and images.dtype == numpy.uint8 and labels is None
    assert images[:, 0, 0, 0].tolist() == [10, 20, 30]


def greys(place):
    return sorted({*folder(place, 2).images[:, 0, 0, 0].tolist()})


def grey_image(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), grey).save(path, {".jfif": "JPEG", ".jpe": "JPEG"}.get(path.suffix))


def test_links_are_followed_to_each_folder_once(tmp_path):
    grey_image(tmp_path / "elsewhere" / "deep" / "a.png", 10)
    grey_image(tmp_path / "elsewhere" / "b.png", 20)
    grey_image(tmp_path / "here" / "c.png", 30)
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "file.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "here" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "here")  # round and round
    (tmp_path / "here" / "self").symlink_to(tmp_path / "here" / "self")
    assert greys(tmp_path / "here") == [10, 20, 30]
    assert len(folder(tmp_path / "here", 2).images) == 4  # three files, and the link to one


def test_every_usual_ending_is_read_and_other_pictures_are_named(tmp_path):
    endings = [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".JFIF", ".WebP", ".BMP"]
    for number, ending in enumerate(endings):
        kind = {".WEBP": "WEBP", ".BMP": "BMP", ".PNG": "PNG"}.get(ending.upper(), "JPEG")
        Image.new("L", (4, 4), 20 * number).save(tmp_path / f"{number}{ending}", kind)
    found = folder(tmp_path, 2).images[:, 0, 0, 0]
    assert found == pytest.approx([20 * i for i in range(10)], abs=2)
    Image.new("L", (4, 4)).save(tmp_path / "moving.gif")
    (tmp_path / "scan.TIFF").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"passed over: 2, such as .*moving.gif; save them as J"):
        assert len(folder(tmp_path, 2).images) == 10


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    grey_image(tmp_path / "pictures" / "a.png", 10)
    assert len(load("folder:~/pictures", size=2).images) == 1
    assert datasets.picture("~/pictures/a.png", 2, 1).max() == 10
    write_originals(tmp_path / "sets", DIGITS, [4, 9])
    assert load("fashion", "~/sets").labels.tolist() == [4, 9]
    with pytest.raises(DataError, match="~nobody-there/x is no folder with images"):
        load("folder:~nobody-there/x")


def test_what_is_hidden_is_not_counted(tmp_path):
    place = tmp_path / ".hidden" / "set"  # the folder itself may lie anywhere
    for name in ("a.png", "._a.png", ".b.png", ".thumbnails/c.png", "__MACOSX/d.png",
                 "__MACOSX/deep/._a.png", "deep/.git/e.png", "deep/f.png"):
        grey_image(place / name, 10)
    assert len(folder(place, 2).images) == 2


def test_a_plain_picture_of_many_pixels_is_read(tmp_path):
    Image.new("RGB", (1000, 1000), (9, 9, 9)).save(tmp_path / "plain.webp", lossless=True)
    assert (folder(tmp_path, 2).images == 9).all()


def test_the_central_square_is_kept(tmp_path):
    stripes = numpy.repeat(numpy.array([0, 100, 255], numpy.uint8), 8)  # three squares side by side
    Image.fromarray(numpy.tile(stripes, (8, 1))).save(tmp_path / "wide.png")
    assert (folder(tmp_path, 8).images == 100).all()


def test_colours_are_kept_where_three_channels_are_asked_for(tmp_path):
    Image.new("RGB", (5, 7), (10, 20, 30)).save(tmp_path / "a.png")
    assert folder(tmp_path, 3, channels=3).images[0, 1, 1].tolist() == [10, 20, 30]
    assert folder(tmp_path, 3).images.shape == (1, 3, 3, 1)


def test_an_image_of_the_right_size_is_kept_as_it_is(tmp_path):
    image = mnist().images[0, :, :, 0]
    Image.fromarray(image).save(tmp_path / "digit.png")
    assert numpy.array_equal(folder(tmp_path).images[0, :, :, 0], image)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_kind_of_png_gives_the_same_picture(tmp_path, mode):
    picture(16, 16, mode).save(tmp_path / "a.png")
    image = folder(tmp_path, 16).images[0, :, :, 0].astype(int)
    assert (image[:, 2:8] < 10).all() and (image[:, 9:] > 150).all()


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    values = numpy.array([[0, 1000, 40000, 65535]] * 4, numpy.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert folder(tmp_path, 4).images[0, 0, :, 0].tolist() == [0, 3, 155, 255]


def png(pixels, depth, kind, *chunks):
    """A PNG file of rows of packed bytes (H, bytes); chunks are (name, content)."""
    def chunk(name, content):
        body = name + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    rows = numpy.asarray(pixels)
    bits = rows.shape[1] * 8 * rows.itemsize // depth // {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    header = (bits.to_bytes(4, "big") + len(rows).to_bytes(4, "big")
              + bytes([depth, kind, 0, 0, 0]))
    content = b"".join(b"\0" + row.tobytes() for row in rows)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
            + b"".join(chunk(*more) for more in chunks)
            + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b""))


GREY = 0  # the kinds of PNG
RGB = 2
GREY_ALPHA = 4
SIXTEEN = numpy.array([[0, 40000], [10000, 65535]], ">u2")
TURNED = (b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")  # left goes up
COLOURS = numpy.array([[0, 0, 0, 300, 40000, 65535]] * 2, ">u2")


@pytest.mark.parametrize(("content", "right"), [
    (png(SIXTEEN, 16, GREY), [[0, 155], [38, 255]]),
    (png(SIXTEEN, 16, GREY, TURNED), [[38, 0], [255, 155]]),
    (png(SIXTEEN, 16, GREY, (b"tRNS", b"\0\0")), [[255, 155], [38, 255]]),
    (png(SIXTEEN, 16, GREY, TURNED, (b"tRNS", b"\0\0")), [[38, 255], [255, 155]]),
    (png(SIXTEEN, 16, GREY, (b"tRNS", b"\x9c\x40")), [[0, 255], [38, 255]]),
    (png(SIXTEEN.reshape(1, 4).repeat(2, 0), 16, GREY_ALPHA), [[99, 39], [99, 39]]),
    (png(COLOURS, 16, RGB, (b"tRNS", bytes(6))), [[255, 121], [255, 121]]),
    (png(COLOURS, 16, RGB, (b"tRNS", COLOURS[0, 3:].tobytes())), [[0, 255], [0, 255]]),
    (png(numpy.uint8([[0x1B], [0xE4]]), 2, GREY), [[0, 85, 170, 255], [255, 170, 85, 0]]),
    (png(numpy.uint8([[0x1B], [0xE4]]), 2, GREY, (b"tRNS", b"\0\1")),
     [[0, 255, 170, 255], [255, 170, 255, 0]]),
    (png(numpy.uint8([[0x07], [0x70]]), 4, GREY, (b"tRNS", b"\0\7")), [[0, 255], [255, 0]]),
    (png(numpy.uint8([[0x50]] * 8), 1, GREY, (b"tRNS", b"\0\0")), [[255] * 8] * 8),
])
def test_png_files_of_every_depth_have_their_greys_turned_and_transparent_as_they_say(
    content, right, tmp_path
):
    (tmp_path / "a.png").write_bytes(content)
    width, height = numpy.shape(right)[::-1]
    wide = Image.open(tmp_path / "a.png")
    assert wide.size in ((width, height), (height, width))
    size = min(width, height)  # the central square
    left = (width - size) // 2
    found = folder(tmp_path, size).images[0, :, :, 0]
    numpy.testing.assert_allclose(found, numpy.array(right)[:, left : left + size], atol=1)


@pytest.mark.parametrize(("mode", "colour", "right"), [
    ("1", 1, 255), ("L", 77, 77), ("LA", (77, 255), 77), ("LA", (0, 0), 255),
    ("LA", (55, 128), 155), ("P", 77, 77), ("RGB", (77, 77, 77), 77), ("RGBA", (0, 0, 0, 0), 255),
    ("RGBA", (0, 0, 0, 51), 204), ("I;16", 257 * 77, 77), ("CMYK", (0, 0, 0, 128), 127),
    ("CMYK", (0, 0, 0, 255), 0), ("CMYK", (77, 77, 77, 0), 178), ("YCbCr", (77, 128, 128), 77),
])
@pytest.mark.parametrize("suffix", [".png", ".jfif", ".webp", ".bmp"])
def test_every_mode_has_its_grey_in_every_kind_of_file(mode, colour, right, suffix, tmp_path):
    image = Image.new(mode, (8, 8), colour)
    if mode == "P":
        image.putpalette([grey for grey in range(256) for _ in range(3)])
    try:
        image.save(tmp_path / f"a{suffix}", {".jfif": "JPEG"}.get(suffix), lossless=True)
    except (OSError, ValueError):
        pytest.skip(f"a {suffix} has no mode {mode}")
    if (suffix, mode) in ((".webp", "I;16"), (".bmp", "RGBA")):
        pytest.skip("Pillow leaves bits, or the transparency, out when it writes")
    for channels in (1, 3):
        assert abs(folder(tmp_path, 4, channels).images.astype(int) - right).max() <= 2


def test_a_print_colour_jpeg_is_read(tmp_path):
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert (folder(tmp_path, 4, channels=3).images > 250).all()


def test_what_is_transparent_becomes_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([9, 9, 9] * 256)
    palette.save(tmp_path / "palette.png", transparency=0)
    assert (folder(tmp_path, 4).images == 255).all()


def test_the_first_picture_of_an_animation_counts(tmp_path):
    first, second = Image.new("L", (4, 4), 50), Image.new("L", (4, 4), 150)
    first.save(tmp_path / "moving.png", save_all=True, append_images=[second])
    assert (folder(tmp_path, 4).images == 50).all()


def test_a_photo_that_was_taken_sideways_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what is left in the file belongs on top
    picture(16, 16).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = folder(tmp_path, 16).images[0, :, :, 0]
    assert image[:6].mean() < 60 and image[10:].mean() > 150


@pytest.mark.parametrize("kind", ["cut", "text", "empty", "gif"])
def test_a_broken_image_is_named_counted_and_left_out(tmp_path, kind):
    picture(64, 64).save(tmp_path / "good.png")
    content = (tmp_path / "good.png").read_bytes()
    damaged = {"cut": content[:60], "text": b"hello", "empty": b""}
    if kind == "gif":
        picture(8, 8).save(tmp_path / "moved.gif")
        damaged["gif"] = (tmp_path / "moved.gif").read_bytes()
    (tmp_path / "bad.png").write_bytes(damaged[kind])
    with pytest.warns(UserWarning, match=r"1 of 2 images cannot be read: .*bad\.png \("):
        assert len(folder(tmp_path).images) == 1


def test_a_small_png_of_vast_size_is_not_unpacked(tmp_path):
    picture(4, 4).save(tmp_path / "good.png")
    Image.new("1", (8000, 8000)).save(tmp_path / "vast.png")
    with pytest.warns(UserWarning, match=r"vast\.png \(more than"):
        assert len(folder(tmp_path).images) == 1


def test_a_large_photo_is_decoded_near_the_size_that_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_LARGEST_IMAGE", 100 * 100)
    picture(400, 400).save(tmp_path / "photo.jpg")
    image = folder(tmp_path, 40).images[0, :, :, 0]
    assert (image[:, 4:18] < 30).all() and (image[:, 22:] > 225).all()


def test_many_broken_images_make_one_short_warning(tmp_path):
    picture(4, 4).save(tmp_path / "z.png")
    for number in range(30):
        (tmp_path / f"{number:02}.png").write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"30 of 31 .*09\.png.*, \.\.\.") as caught:
        folder(tmp_path)
    assert len(caught) == 1 and "10.png" not in str(caught[0].message)


def test_a_folder_where_every_image_is_broken_is_an_error(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"1 of 1 images cannot be read: .*bad\.jpg"):
        folder(tmp_path)


@pytest.mark.parametrize("kind", ["empty", "missing", "file"])
def test_a_folder_without_images_is_an_error(tmp_path, kind):
    path = tmp_path if kind == "empty" else tmp_path / kind
    if kind == "file":
        path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"is no folder with images: expected \.jpg"):
        load(f"folder:{path}")


@pytest.mark.parametrize("wrong", [{"size": 0}, {"channels": 2}])
def test_a_size_or_channel_count_that_makes_no_image_is_refused(tmp_path, wrong):
    with pytest.raises(DataError, match="expected size >= 1, channels 1 or 3"):
        folder(tmp_path, **wrong)


# Points in the plane.


def test_the_ring_and_the_grid_are_those_of_the_papers():
    ring, grid = datasets.ring(), datasets.grid()
    assert ring.centers.shape == (8, 2) and ring.deviation == 0.01
    numpy.testing.assert_allclose(numpy.hypot(*ring.centers.T), 1, atol=1e-6)
    gaps = numpy.linalg.norm(ring.centers - numpy.roll(ring.centers, 1, axis=0), axis=1)
    numpy.testing.assert_allclose(gaps, 2 * numpy.sin(numpy.pi / 8), atol=1e-6)
    assert {*map(tuple, grid.centers.tolist())} == {
        (x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)
    }
    assert grid.centers.shape == (25, 2) and grid.deviation == 0.05


def test_the_spiral_is_one_arm_without_gaps_from_the_middle_to_radius_1():
    centers, deviation = datasets.spiral()
    steps = numpy.linalg.norm(numpy.diff(centers, axis=0), axis=1)
    assert steps.max() < 2.5 * deviation and steps.max() < 1.6 * steps.min()
    radii = numpy.hypot(*centers.T)
    assert (numpy.diff(radii) > 0).all() and radii[0] < 0.1 and 0.99 < radii[-1] <= 1
    assert numpy.unwrap(numpy.arctan2(*centers.T[::-1]))[-1] == pytest.approx(4 * numpy.pi, abs=0.1)


def test_two_moons_reach_into_one_another_around_the_middle():
    centers, deviation = datasets.moons()
    upper, lower = centers[:100], centers[100:]
    numpy.testing.assert_allclose(numpy.hypot(*(upper + [1 / 3, 1 / 6]).T), 2 / 3, atol=1e-6)
    assert numpy.array_equal(upper, -lower) and (upper[:, 1] > -1 / 6).all()
    assert 0.99 < abs(centers).max() <= 1 and upper[:, 1].min() < 0 < lower[:, 1].max()
    gaps = numpy.linalg.norm(upper[:, None] - lower, axis=2)
    assert gaps.min() > 6 * deviation  # and yet stay apart


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_points_lie_around_all_centers_alike_at_the_deviation(name):
    mixture = datasets.PLANE[name]()
    points = to_host(mixture.samples(20_000))
    assert points.shape == (20_000, 2) and points.dtype == numpy.float32
    distances = numpy.linalg.norm(points[:, None] - mixture.centers, axis=2)
    found = numpy.bincount(distances.argmin(axis=1)) / 20_000 * len(mixture.centers)
    assert 0.8 < found.min() and found.max() < 1.2
    offsets = points - mixture.centers[distances.argmin(axis=1)]
    numpy.testing.assert_allclose(offsets.std(axis=0), mixture.deviation, rtol=0.03)
    numpy.testing.assert_allclose(offsets.mean(axis=0), 0, atol=0.05 * mixture.deviation)


def test_points_of_the_spiral_lie_along_the_whole_arm():
    mixture = datasets.spiral()
    points = to_host(mixture.samples(20_000))
    distances = numpy.linalg.norm(points[:, None] - mixture.centers, axis=2)
    assert (numpy.bincount(distances.argmin(axis=1), minlength=200) > 50).all()  # 100 are due
    # Across the arm lies a Gaussian of one dimension, so a sample rarely is far from it.
    assert (distances.min(axis=1) < 3.2 * mixture.deviation).mean() > 0.99


def test_the_same_seed_gives_the_same_points():
    def drawn(seed):
        tinygan.seed(seed)
        return to_host(datasets.ring().samples(10)).tolist()

    assert drawn(1) == drawn(1) != drawn(2)


def test_uci_digits_are_those_of_the_archive_enlarged():
    data = datasets.uci_digits()
    assert data.images.shape == (1797, 28, 28, 1) and data.images.dtype == numpy.uint8
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert numpy.bincount(data.labels).tolist() == counts
    border = data.images.copy()
    border[:, 3:25, 3:25] = 0
    assert not border.any() and data.images.max() == 255
    exact = datasets.uci_digits(8).images[:, 10:18, 10:18, 0]
    archive = Path(datasets.__file__).parent / "data" / "uci_digits.npz"
    with numpy.load(archive) as file:
        assert numpy.array_equal(numpy.round(exact / 255 * 16), file["images"])


@pytest.mark.parametrize("side", [7, 29, -1])
def test_uci_digits_of_another_side_are_an_error(side):
    with pytest.raises(datasets.DataError, match=f"{side} pixels.*8 to 28"):
        datasets.uci_digits(side)
