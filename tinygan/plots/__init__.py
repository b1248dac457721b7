"""Pictures: grids of samples, animations, curves, the tape, points in the plane; and music.

Letters: N images, H high, W wide, C channels (1 grey, 3 colours); pixels are in [-1, 1].
"""

from .curves import save_curves, save_path, save_roc
from .images import (
    grid,
    save_animation,
    save_captioned,
    save_comparison,
    save_differences,
    save_grid,
)
from .music import save_music, save_rolls
from .plane import landscape, save_laboratory, save_sheet
from .tape import save_graph

__all__ = [
    "grid", "landscape", "save_animation", "save_captioned", "save_comparison", "save_curves",
    "save_differences", "save_graph", "save_grid", "save_laboratory", "save_music", "save_path",
    "save_roc", "save_rolls", "save_sheet",
]
