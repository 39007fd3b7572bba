"""Encoded images to pixels: the one way, for training and for serving, so that both see the same.

A PNG or JPEG file is decoded, turned upright as its EXIF says, made RGB or grey, resized (bilinear, antialiased) until
it covers the wanted size, and cropped around the middle. Files are hostile until shown otherwise: other formats are
not even tried, and a picture that would unpack to too many pixels is refused from its head.

Decoding inside the graph was tried and left: ``DecodeImage`` of onnxruntime-extensions 0.15.2 ends the whole process on
a damaged JPEG, and its pixels differ from Pillow's.
"""

from __future__ import annotations

import base64
import binascii
import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mofang.base.domain.errors import TensorData

FORMATS = ("PNG", "JPEG")
MAX_PIXELS = 50_000_000
_MAGIC = (b"\x89PNG", b"\xff\xd8")
_MAGIC_IN_BASE64 = (b"iVBORw", b"/9j/")


def pixels(file: bytes, size: tuple[int, int], channels: int, where: str) -> NDArray[np.uint8]:
    """Return [height, width, channels], or [height, width] if ``channels`` is 0 (grey); ``where`` names the file.

    ``file`` may be base64 text, for those who speak JSON. Raises TensorData.
    """
    try:
        with Image.open(io.BytesIO(_plain(file)), formats=FORMATS) as image:
            _check_size(image.size, where)
            upright = ImageOps.exif_transpose(image)
            return np.asarray(_fit(_coloured(upright, "RGB" if channels else "L"), *size))
    except UnidentifiedImageError as error:
        raise TensorData(f"{where} is no PNG or JPEG file", hint="send the bytes of the file") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, struct.error, binascii.Error) as error:
        raise TensorData(f"{where} is damaged: {error}") from error


def measure(file: bytes, where: str) -> tuple[int, int]:
    """Return height and width from the head of ``file``, upright, without decoding it. Raises TensorData."""
    try:
        with Image.open(io.BytesIO(file), formats=FORMATS) as image:
            width, height = image.size
            sideways = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (width, height) if sideways else (height, width)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, struct.error) as error:
        raise TensorData(f"{where} is no PNG or JPEG file, or is damaged") from error


def png(array: NDArray[Any]) -> bytes:
    """Encode pixels [height, width] or [height, width, 3] without loss."""
    file = io.BytesIO()
    Image.fromarray(array.astype(np.uint8)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _plain(file: bytes) -> bytes:
    if file.startswith(_MAGIC) or not file.startswith(_MAGIC_IN_BASE64):
        return file
    return base64.b64decode(file, validate=True)


def _check_size(size: tuple[int, int], where: str) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise TensorData(
            f"{where} has {size[0]} x {size[1]} pixels; {MAX_PIXELS:,} are the limit", hint="scale it down"
        )


def _coloured(image: Any, mode: str) -> Any:
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip instead of scaling
        image = Image.fromarray((np.asarray(image, np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert(mode)


def _fit(image: Any, height: int, width: int) -> Any:
    """Resize until ``image`` covers the size, and crop around the middle."""
    wide, high = image.size
    scaled = max(width, round(wide * height / high)), max(height, round(high * width / wide))
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return image.crop((left, top, left + width, top + height)) if scaled != (width, height) else image
