"""What a demo has measured: printed as a table, and written for other instruments to measure."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from ..files import replacing


def report(
    out: Path, rows: Mapping[str, Mapping[str, float]], arrays: Mapping[str, numpy.ndarray]
) -> None:
    """Print the figures, a row for each thing that was measured, and write them to two files.

    out/figures.json  the rows: {"a floor": {"figure": 0.5, ...}, "G": {...}, "a ceiling": {...}}
    out/figures.npz   the arrays that they were computed from, such as images as uint8
    """
    tables: list[dict[str, Mapping[str, float]]] = []
    for name, row in rows.items():  # one that shares no figure with those above starts a table
        if not tables or not any(row.keys() & other.keys() for other in tables[-1].values()):
            tables.append({})
        tables[-1][name] = row
    for some in tables:
        columns = list(dict.fromkeys(figure for row in some.values() for figure in row))
        print(table(columns, {
            name: [f"{row[column]:.4g}" if column in row else "-" for column in columns]
            for name, row in some.items()
        }))
    with replacing(out / "figures.json") as path:
        path.write_text(json.dumps(rows, indent=2) + "\n")
    with replacing(out / "figures.npz") as path:
        numpy.savez_compressed(path, **arrays)
    print(f"Written to {out}/figures.json; what they were computed from, to figures.npz.")


def table(titles: Sequence[str], rows: Mapping[str, Sequence[Any]]) -> str:
    """Titles, and cells to the right of each row's name, in columns as wide as they need."""
    lines = [["", *titles], *([name, *cells] for name, cells in rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"{name:{widths[0]}}" + "".join(f"  {cell:>{width}}" for cell, width
                                        in zip(cells, widths[1:], strict=True))
        for name, *cells in lines
    )
