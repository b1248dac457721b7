"""Ten thousand characters in pixel art: what each of them has, and which pixel is what."""

from pathlib import Path
from typing import NamedTuple

import numpy

from .downloads import check_part

_FILE = Path(__file__).parent / "data" / "characters.npz"

ATTRIBUTES: dict[str, tuple[str, ...]] = {  # in the order of Characters.attributes
    "skin": ("pale", "tan", "brown", "dark"),
    "length": ("short", "long"),  # of the hair
    "hair": ("black", "brown", "blond", "red", "blue", "green"),
    "clothes": ("red", "blue", "green", "yellow", "pink", "white"),
    "hat": ("none", "red", "blue", "green", "purple", "orange", "grey"),
    "glasses": ("none", "glasses"),
    "beard": ("none", "beard"),
    "mood": ("sad", "happy"),
}
PARTS = ("background", "skin", "clothes", "hair", "hat", "glasses", "beard", "eyes and mouth")
HAIR = 3  # pixels in which the colour of hair can be seen


class Characters(NamedTuple):
    """Characters in main memory, N of them, all different, all uint8."""

    images: numpy.ndarray      # (N, 16, 16, 3)
    attributes: numpy.ndarray  # (N, 8), numbers of the values in ATTRIBUTES
    parts: numpy.ndarray       # (N, 16, 16), numbers of PARTS

    def shows_hair(self) -> numpy.ndarray:
        """Whether hair shows, bool (N,): under a hat it may not, and then its colour is unknown."""
        return (self.parts == PARTS.index("hair")).sum(axis=(1, 2)) >= HAIR


def characters(part: str = "train") -> Characters:
    """9,000 characters to "train" on, 1,000 "held-out".

    Where they come from, and their licence: data/README.md.
    """
    check_part(part)
    rows = slice(9000) if part == "train" else slice(9000, 10000)
    with numpy.load(_FILE, allow_pickle=False) as file:
        return Characters(*(file[name][rows] for name in Characters._fields))


def held_out_combinations() -> numpy.ndarray:
    """Values of hair, clothes and hat, uint8 (25, 3): no training caption has them together."""
    with numpy.load(_FILE, allow_pickle=False) as file:
        return file["held_out_combinations"]
