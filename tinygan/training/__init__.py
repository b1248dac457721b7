"""What every demo needs around its update: options, the run, checkpoints, trained runs."""

from .checkpoints import CheckpointError
from .options import UsageError, from_zero, main, parser, positive, require_free, run_main
from .pictures import Pictures, Truncated, apply, apply_in_tiles, interpolate
from .pool import ImagePool
from .report import report, table
from .run import Run
from .trained import Trained, load

__all__ = [
    "CheckpointError", "ImagePool", "Pictures", "Run", "Trained", "Truncated", "UsageError",
    "apply", "apply_in_tiles", "from_zero", "interpolate", "load", "main", "parser", "positive",
    "report", "require_free", "run_main", "table",
]
