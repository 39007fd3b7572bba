"""Pictures to pixels, exactly as the server does; put beside loaders as `pictures.py`."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps


def pixels(file: str, shape: list[int]) -> np.ndarray[Any, Any]:
    """Return a PNG or JPEG file, as base64, in the size and the colours the model takes: [height, width(, 3)]."""
    height, width = shape[:2]
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(base64.b64decode(file))))
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image, np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    image = image.convert("RGB" if len(shape) > 2 else "L")
    wide, high = image.size
    scaled = max(width, round(wide * height / high)), max(height, round(high * width / wide))
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return np.asarray(image.crop((left, top, left + width, top + height)))
