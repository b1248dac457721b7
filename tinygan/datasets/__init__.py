"""Real data: digits that ship with the package, the original IDX files, folders of images,
photographs, points.

Letters: N examples, H high, W wide, C channels. Pixels stay bytes until a batch is on the device.
"""

from .batches import Batches, DataError, Dataset, from_bytes, to_bytes
from .downloads import ORIGINALS, Originals, download, original, read_idx
from .folders import folder, picture
from .named import load, mnist, uci_digits
from .photos import FACTOR, Crops, bicubic, enlarged, load_photographs, photographs, reduced
from .plane import PLANE, Mixture, grid, ring, spiral

__all__ = [
    "FACTOR", "ORIGINALS", "PLANE", "Batches", "Crops", "DataError", "Dataset", "Mixture",
    "Originals", "bicubic", "download", "enlarged", "folder", "from_bytes", "grid", "load",
    "load_photographs", "mnist", "original", "photographs", "picture", "read_idx", "reduced",
    "ring", "spiral", "to_bytes", "uci_digits",
]
