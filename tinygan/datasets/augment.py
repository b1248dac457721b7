"""Plain augmentation: each image again, moved, resized, turned, with thicker or thinner strokes."""

import math

import numpy

from .batches import DataError, Dataset


def augmented(
    data: Dataset, copies: int, *, seed: int = 0, shift: float = 0.0, scale: float = 0.0,
    angle: float = 0.0, strokes: bool = False,
) -> Dataset:
    """copies of each image, each changed at random, and their labels: (N, ...) -> (N copies, ...).

    shift    pixels by which it moves at most, each way
    scale    part by which it grows or shrinks at most, in height and in width
    angle    degrees by which it turns at most, either way
    strokes  whether a third becomes thicker by a pixel, and a third thinner

    What comes in from outside is 0, black. images are uint8 (N, H, W, 1); raises DataError for
    others.
    """
    from PIL import Image, ImageFilter

    if data.images.shape[3] != 1:
        raise DataError(f"images of {data.images.shape[1:]}: only grey ones are augmented")
    random = numpy.random.default_rng(seed)
    height, width = data.images.shape[1:3]
    images = numpy.empty((copies, *data.images.shape), numpy.uint8)
    filters = [ImageFilter.MaxFilter(3), ImageFilter.MinFilter(3), None]
    for copy in range(copies):
        for i, pixels in enumerate(data.images[..., 0]):
            right, down = random.uniform(-shift, shift, 2)
            wider, higher = 1 + random.uniform(-scale, scale, 2)
            turn = math.radians(random.uniform(-angle, angle))
            cosine, sine = math.cos(turn), math.sin(turn)
            # Pillow asks where a pixel (x, y) of the new image comes from: turned and resized
            # about the middle.
            a, b, d, e = cosine / wider, sine / wider, -sine / higher, cosine / higher
            x, y = width / 2, height / 2
            matrix = (a, b, x - a * (x + right) - b * (y + down),
                      d, e, y - d * (x + right) - e * (y + down))
            image = Image.fromarray(pixels)
            image = image.transform(image.size, Image.Transform.AFFINE, matrix,
                                    Image.Resampling.BILINEAR)
            thickness = filters[random.integers(3)]
            if strokes and thickness:
                image = image.filter(thickness)
            images[copy, i, :, :, 0] = image
    labels = None if data.labels is None else numpy.tile(data.labels, copies)
    return Dataset(images.reshape(-1, height, width, 1), labels)
