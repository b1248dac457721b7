"""Real data: digits, emoji, characters, photographs, music that ship; IDX files, folders, points.

Letters: N examples, H high, W wide, C channels. Pixels stay bytes until a batch is on the device.
"""

from .augment import augmented
from .batches import Batches, DataError, Dataset, from_bytes, halved, to_bytes
from .captions import WORDS, Captioned, caption, captioned, text, tokens
from .characters import ATTRIBUTES, Characters, characters, held_out_combinations
from .chorales import Phrases, chorales, from_rolls, performed, to_rolls
from .downloads import ORIGINALS, Originals, download, original, read_idx
from .folders import folder, picture
from .named import few, load, mnist, uci_digits
from .pairs import Pairs, emoji, emoji_palette, pairs, unpaired, unpaired_emoji
from .photos import FACTOR, Crops, bicubic, enlarged, load_photographs, photographs, reduced
from .plane import PLANE, Mixture, grid, moons, ring, spiral

__all__ = [
    "ATTRIBUTES", "FACTOR", "ORIGINALS", "PLANE", "WORDS", "Batches", "Captioned", "Characters",
    "Crops", "DataError", "Dataset", "Mixture", "Originals", "Pairs", "Phrases", "augmented",
    "bicubic", "caption", "captioned", "characters", "chorales", "download", "emoji",
    "emoji_palette", "enlarged", "few", "folder", "from_bytes", "from_rolls", "grid", "halved",
    "held_out_combinations", "load", "load_photographs", "mnist", "moons", "original", "pairs",
    "performed", "photographs", "picture", "read_idx", "reduced", "ring", "spiral", "text",
    "to_bytes", "to_rolls", "tokens", "uci_digits", "unpaired", "unpaired_emoji",
]
