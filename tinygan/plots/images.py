"""Images side by side, and one after another."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from ..datasets import to_bytes
from ..files import replacing


def grid(images: numpy.ndarray, columns: int = 8, scale: int = 3, gap: int = 1) -> Any:
    """A Pillow picture of images (N, H, W, C) in [-1, 1], row by row, each pixel scale x scale."""
    from PIL import Image

    n, height, width, channels = images.shape
    rows, high, wide = -(-n // columns), height + gap, width + gap
    cells = numpy.full((rows * columns, high, wide, channels), 255, dtype=numpy.uint8)
    cells[:n, :height, :width] = to_bytes(images)
    cells = cells.reshape(rows, columns, high, wide, channels).swapaxes(1, 2)
    pixels = cells.reshape(rows * high, columns * wide, channels)[: -gap or None, : -gap or None]
    picture = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def save_grid(images: numpy.ndarray, path: Path, columns: int = 8, scale: int = 3) -> None:
    """Write grid(images) as a PNG."""
    with replacing(path) as file:
        grid(images, columns, scale).save(file, format="PNG")


def save_captioned(images: numpy.ndarray, texts: Sequence[str], path: Path, scale: int = 3) -> None:
    """Write as a PNG a row of images (N, H, W, C) for each text, equally many, and the text below.
    """
    from PIL import Image, ImageDraw, ImageFont

    columns, font, line = len(images) // len(texts), ImageFont.load_default(11), 15
    rows = [grid(row, columns, scale) for row in numpy.split(images, len(texts))]
    width = max([rows[0].width, *(int(font.getlength(text)) + 4 for text in texts)])
    picture = Image.new("RGB", (width, len(rows) * (rows[0].height + line)), "white")
    draw = ImageDraw.Draw(picture)
    for number, (row, text) in enumerate(zip(rows, texts, strict=True)):
        top = number * (row.height + line)
        picture.paste(row, (0, top))
        draw.text((2, top + row.height), text, "black", font)
    with replacing(path) as file:
        picture.save(file, format="PNG")


def save_differences(pairs: Sequence[tuple[numpy.ndarray, numpy.ndarray]], path: Path) -> None:
    """Write for each pair (images, made), both (N, H, W, C), three rows of up to ten as a PNG:
    the images, what was made of them, and where the two differ, |image - made|."""
    rows = [row[:10] for images, made in pairs for row in (images, made, abs(images - made) - 1)]
    save_grid(numpy.concatenate(rows), path, columns=len(rows[0]))


def save_comparison(
    columns: Mapping[str, Sequence[numpy.ndarray]], captions: Mapping[str, Sequence[str]],
    path: Path,
) -> None:
    """Write photographs uint8 (H, W, 3) pixel by pixel as a PNG, titles above, captions below.

    columns: by title, a photograph for each row, of the row's size; captions: by title, too.
    """
    from PIL import Image, ImageDraw, ImageFont

    gap, line, font = 6, 18, ImageFont.load_default(13)
    rows = [*zip(*columns.values(), strict=True)]
    width = max(photograph.shape[1] for row in rows for photograph in row) + gap
    height = line + sum(len(row[0]) + line + gap for row in rows)
    picture = Image.new("RGB", (width * len(columns) - gap, height), "white")
    draw = ImageDraw.Draw(picture)
    for column, (title, photographs) in enumerate(columns.items()):
        left, top = column * width, line
        draw.text((left, 1), title, "black", font)
        for photograph, caption in zip(photographs, captions[title], strict=True):
            picture.paste(Image.fromarray(photograph), (left, top))
            top += len(photograph)
            draw.text((left, top + 1), caption, "black", font)
            top += line + gap
    with replacing(path) as file:
        picture.save(file, format="PNG")


def save_animation(frames: Sequence[Path], path: Path, milliseconds: int = 120) -> None:
    """Write pictures of one size as a GIF that repeats, the last one shown for two seconds."""
    from PIL import Image

    durations = [milliseconds] * (len(frames) - 1) + [2000]
    with replacing(path) as file:
        pictures = [Image.open(frame) for frame in frames]
        pictures[0].save(
            file, format="GIF", save_all=True, append_images=pictures[1:], duration=durations,
            loop=0,
        )
