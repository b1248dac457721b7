"""Two kinds of images: pairs that show the same thing, or two folders that share no image.

Letters: N pairs, S the images' side, C channels of the sources, D of the targets.
"""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from .batches import DataError
from .downloads import check_part
from .folders import folder, folder_of, image_files, picture, read_all, require_size

_EMOJI = Path(__file__).parent / "data" / "openmoji_pairs.npz"
_TRAINING = 3716  # its first rows: of the others, none is there in another skin tone


class Pairs(NamedTuple):
    """Two kinds of images in main memory, uint8; those of unpaired() may differ in number."""

    sources: numpy.ndarray  # (N, S, S, C)
    targets: numpy.ndarray  # (N, S, S, D)


def emoji(part: str = "train") -> Pairs:
    """OpenMoji's emoji as black outlines (N, 32, 32, 1) and in colour (N, 32, 32, 3).

    3,716 to "train" on, 368 "held-out". Where they come from, and their licence: data/README.md.
    """
    check_part(part)
    rows = slice(_TRAINING) if part == "train" else slice(_TRAINING, None)
    with numpy.load(_EMOJI, allow_pickle=False) as file:
        return Pairs(file["outlines"][rows, :, :, None], file["colours"][rows])


def unpaired_emoji() -> Pairs:
    """The emoji to train on, 1,833 as outlines, 1,717 others in colour: none is on both sides.

    Those that differ in skin tone alone stay on one side, and so do those of one outline.
    """
    outlines, colours = emoji()
    with numpy.load(_EMOJI, allow_pickle=False) as file:
        _, design = numpy.unique(file["base"][:_TRAINING], return_inverse=True)
    first = design % 2 == 0  # every other design, so that both sides have faces, animals, flags
    seen = {outline.tobytes() for outline in outlines[first]}
    second = [row for row in numpy.flatnonzero(~first) if outlines[row].tobytes() not in seen]
    return Pairs(outlines[first], colours[second])


def emoji_palette() -> numpy.ndarray:
    """The 28 colours that OpenMoji's artists use, uint8 (28, 3); black and white come first."""
    with numpy.load(_EMOJI, allow_pickle=False) as file:
        return file["palette"]


def pairs(name: str, part: str = "train", *, size: int = 32) -> Pairs:
    """The pairs of that name, "emoji" or "folder:PATH": grey sources, targets in colour.

    Either PATH has two subfolders, where the two images of a pair have the same name, suffixes
    aside; the sources are in the subfolder that comes first by name. Or it has none, and each file
    is a pair side by side, twice as wide as high, the source on the left, as Isola et al. 2017
    published their sets.

    Every tenth pair by name is "held-out". Images are cut and resized as in folder(). A name
    without a partner is left out, as a broken image is, with a warning. Raises DataError where no
    pair is left, and for emoji of another size.
    """
    check_part(part)
    if name == "emoji":
        if size != 32:
            raise DataError(f"emoji have 32 x 32 pixels, not {size} x {size}: size is for a folder")
        return emoji(part)
    path = folder_of(name, "emoji or folder:PATH")
    require_size(size, channels=3)
    targets = _pairs_in(path)

    def read(file: Path) -> tuple[numpy.ndarray, numpy.ndarray]:
        target = targets[file]
        halves = (0, 1) if target == file else (None, None)
        return picture(file, size, 1, halves[0]), picture(target, size, 3, halves[1])

    read_pairs = read_all(part_of(sorted(targets), part, path), read)
    return Pairs(*(numpy.stack(images) for images in zip(*read_pairs, strict=True)))


def unpaired(name: str, part: str = "train", *, size: int = 32) -> Pairs:
    """Two kinds of images that need not belong together, from the two subfolders of "folder:PATH".

    All are in colour; the sources are in the subfolder that comes first by name. Every tenth image
    of each is "held-out"; or, where the subfolders are trainA, trainB, testA and testB, as in the
    sets of Zhu et al. 2017, those of the last two are. Images are cut and resized as in folder().
    Raises DataError.
    """
    check_part(part)
    path = folder_of(name, "folder:PATH")
    places = _subfolders(path)
    split = [place.name for place in places] == ["testA", "testB", "trainA", "trainB"]
    if split:
        places = places[2:] if part == "train" else places[:2]
    if len(places) != 2:
        raise DataError(
            f"{path} has {len(places)} subfolders: expected two, one for each kind of image, or "
            "trainA, trainB, testA and testB"
        )
    kinds = [folder(place, size, channels=3).images for place in places]
    return Pairs(*(images if split else numpy.stack(part_of(images, part, path))
                   for images in kinds))


def _subfolders(path: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones. Raises DataError where it is none."""
    try:
        return sorted(place for place in path.iterdir()
                      if place.is_dir() and not place.name.startswith("."))
    except OSError as error:
        raise DataError(f"{path} cannot be read as a folder ({error.strerror})") from error


def _pairs_in(path: Path) -> dict[Path, Path]:
    """The target of each source in a folder: the same file where the two are side by side."""
    places = _subfolders(path)
    if not places:
        return {file: file for file in image_files(path)}
    if len(places) != 2:
        raise DataError(
            f"{path} has {len(places)} subfolders: expected two with the same file names, or none, "
            "and in each file a pair side by side"
        )
    one, other = ({file.relative_to(place).with_suffix(""): file for file in image_files(place)}
                  for place in places)
    both, lonely = one.keys() & other.keys(), sorted(one.keys() ^ other.keys())
    if not both:
        raise DataError(
            f"no image in {places[0]} has the name of one in {places[1]}: give both images of a "
            "pair the same name"
        )
    if lonely:
        warnings.warn(f"{len(lonely)} images in {path} have no partner, such as {lonely[0]}; the "
                      "others are used", stacklevel=3)
    return {one[stem]: other[stem] for stem in both}


def part_of(items: Any, part: str, path: Path) -> list[Any]:
    """Every tenth, beginning with the first, which are held out, or the others."""
    if len(items) < 2:
        raise DataError(f"{path} holds one image or pair: expected more, to hold every tenth out")
    return [item for row, item in enumerate(items) if (row % 10 == 0) == (part == "held-out")]
