"""Images, changed at random: mirrored, shifted, turned, recoloured. Pure numpy, a whole batch at a time.

The training loop calls :func:`augment` on every mini-batch it trains on, through :meth:`Examples.batch`; what is
evaluated or served never passes here. All randomness comes from the generator that is handed in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mofang.make.recipe import Augment

Images = NDArray[Any]  # [n, height, width] or [n, height, width, channels], uint8 or float
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in Pillow's "L"


def augment(spec: Augment, images: Images, random: np.random.Generator) -> Images:
    """Return changed copies of ``images`` of the same shape and dtype; each is changed independently.

    uint8 stays within 0..255. The same generator state gives the same images.
    """
    if spec.flip:
        images = flip(images, spec.flip, random)
    if spec.crop:
        images = shift(images, spec.crop, random)
    if spec.rotate:
        images = rotate(images, spec.rotate, random)
    if spec.brightness or spec.contrast or spec.saturation:
        images = recolour(spec, images, random)
    return images


def flip(images: Images, share: float, random: np.random.Generator) -> Images:
    """Mirror about ``share`` of the images, left to right."""
    chosen = random.random(len(images)) < share
    return np.where(_each(chosen, images), images[:, :, ::-1], images)


def shift(images: Images, most: int, random: np.random.Generator) -> Images:
    """Shift each image by up to ``most`` pixels up or down and left or right; what is bared is 0."""
    height, width = images.shape[1:3]
    rest = [(0, 0)] * (images.ndim - 3)
    padded = np.pad(images, [(0, 0), (most, most), (most, most), *rest])
    windows = sliding_window_view(padded, (height, width), axis=(1, 2))  # [n, top, left, (channels,) height, width]
    top, left = random.integers(0, 2 * most + 1, (2, len(images)))
    taken = windows[np.arange(len(images)), top, left]
    return taken if images.ndim == 3 else np.ascontiguousarray(np.moveaxis(taken, 1, -1))


def rotate(images: Images, most: float, random: np.random.Generator) -> Images:
    """Turn each image around its middle by up to ``most`` degrees either way, bilinearly; what is bared is 0."""
    count, height, width = images.shape[:3]
    angle = np.radians(random.uniform(-most, most, count)).astype(np.float32)[:, None, None]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    rows = np.cos(angle) * y - np.sin(angle) * x + (height - 1) / 2
    columns = np.sin(angle) * y + np.cos(angle) * x + (width - 1) / 2
    return _sample(images, rows, columns)


def recolour(spec: Augment, images: Images, random: np.random.Generator) -> Images:
    """Vary the brightness, the contrast and (of images with three channels) the saturation of each image."""
    values = images.astype(np.float32)
    if spec.brightness:
        values *= _factors(spec.brightness, values, random)
    if spec.contrast:
        middle = values.mean(axis=tuple(range(1, values.ndim)), keepdims=True)
        values = middle + (values - middle) * _factors(spec.contrast, values, random)
    if spec.saturation and values.shape[3:] == (3,):
        grey = (values @ _GREY)[..., None]
        values = grey + (values - grey) * _factors(spec.saturation, values, random)
    return _as(images.dtype, values)


def _sample(images: Images, rows: NDArray[np.float32], columns: NDArray[np.float32]) -> Images:
    """Return the images at fractional places ``[n, height, width]``, between pixels linearly."""
    height, width = images.shape[1:3]
    top, left = np.floor(rows).astype(np.intp), np.floor(columns).astype(np.intp)
    image = np.arange(len(images))[:, None, None]
    total = np.zeros(images.shape, np.float32)
    for down in (0, 1):
        for right in (0, 1):
            y, x = top + down, left + right
            weight = (1 - np.abs(rows - y)) * (1 - np.abs(columns - x))
            weight *= (y >= 0) & (y < height) & (x >= 0) & (x < width)
            pixels = images[image, y.clip(0, height - 1), x.clip(0, width - 1)]
            total += pixels * (weight if images.ndim == 3 else weight[..., None])
    return _as(images.dtype, total)


def _factors(most: float, images: Images, random: np.random.Generator) -> Images:
    return _each(random.uniform(1 - most, 1 + most, len(images)).astype(np.float32), images)


def _each(values: NDArray[Any], images: Images) -> NDArray[Any]:
    """Shape one value for each image so that it meets all its pixels."""
    return values.reshape(-1, *[1] * (images.ndim - 1))


def _as(dtype: np.dtype[Any], values: NDArray[np.float32]) -> Images:
    return np.rint(values).clip(0, 255).astype(np.uint8) if dtype == np.uint8 else values.astype(dtype)
