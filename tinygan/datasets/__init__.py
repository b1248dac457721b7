"""Real data: digits and emoji that ship, the original IDX files, folders of images, points.

Letters: N examples, H high, W wide, C channels. Pixels stay bytes until a batch is on the device.
"""

from .augment import augmented
from .batches import Batches, DataError, Dataset, from_bytes, to_bytes
from .downloads import ORIGINALS, Originals, download, original, read_idx
from .folders import folder, picture
from .named import few, load, mnist, uci_digits
from .pairs import Pairs, emoji, emoji_palette, pairs, unpaired, unpaired_emoji
from .plane import PLANE, Mixture, grid, ring, spiral

__all__ = [
    "ORIGINALS", "PLANE", "Batches", "DataError", "Dataset", "Mixture", "Originals", "Pairs",
    "augmented", "download", "emoji", "emoji_palette", "few", "folder", "from_bytes", "grid",
    "load", "mnist", "original", "pairs", "picture", "read_idx", "ring", "spiral", "to_bytes",
    "uci_digits", "unpaired", "unpaired_emoji",
]
