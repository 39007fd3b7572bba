"""A user's file of what a model is asked: .npy of its one input, .npz of all of them by name, or texts."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from mofang.base.domain.errors import Invalid, MofangError
from mofang.base.domain.tensors import NUMPY, Array, Signature, TensorSpec, check_inputs
from mofang.make.prepare.npy import DAMAGED

FEWEST_TEXTS = 8  # that a language model is measured on
_FEW = 16  # rows, from which on half of them can be held out


def read_sample(data: bytes, filename: str, signature: Signature) -> dict[str, Array]:
    """Return the inputs of ``data``, n rows each, as a model of ``signature`` takes them.

    Raises Invalid if it is no such file, and TensorName, TensorDatatype or TensorShape if it does not fit.
    """
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
        whole = found if isinstance(found, np.ndarray) else {name: np.asarray(found[name]) for name in found.files}
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, *DAMAGED) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise Invalid(
            f"the calibration file {filename!r} cannot be read: {said}",
            hint="save it with numpy: `np.save` for a model of one input, `np.savez` with its inputs by name",
        ) from error
    known = {spec.name: spec for spec in signature.inputs}
    arrays: Mapping[str, Array] = dict.fromkeys(list(known)[:1], whole) if isinstance(whole, np.ndarray) else whole
    inputs = {name: _as(array, known[name]) if name in known else array for name, array in arrays.items()}
    try:
        check_inputs(signature, inputs, "the model")
    except MofangError as error:
        raise type(error)(f"the calibration file {filename!r} does not fit: {error.message}") from error
    return inputs


def read_texts(data: bytes, filename: str) -> list[str]:
    """Return the texts of a file, between which are empty lines; of one without any, each line is a text.

    Raises Invalid if it is no text in UTF-8, or has too few.
    """
    hint = f"give a text file in UTF-8 with {FEWEST_TEXTS} texts or more, and an empty line between two of them"
    try:
        whole = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise Invalid(f"the calibration file {filename!r} is no text in UTF-8: {error.reason}", hint=hint) from error
    parts = re.split(r"\n\s*\n", whole.strip())
    found = [text.strip() for text in (parts if len(parts) > 1 else whole.splitlines()) if len(text.split()) > 1]
    if len(found) < FEWEST_TEXTS:
        raise Invalid(f"the calibration file {filename!r} has {len(found)} texts of several words", hint=hint)
    return found


def parted(rows: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return every second row to calibrate on, and the others to examine on; of very few, all for both."""
    if len(next(iter(rows.values()))) < _FEW:
        return dict(rows), dict(rows)
    return {name: array[::2] for name, array in rows.items()}, {name: array[1::2] for name, array in rows.items()}


def _as(array: Array, spec: TensorSpec) -> Array:
    """Return numbers in the type the model takes, if none is lost by it, and texts as bytes."""
    if spec.datatype == "BYTES" and array.dtype.kind in "US":
        texts = [each.encode() if isinstance(each, str) else bytes(each) for each in array.ravel().tolist()]
        made = np.empty(len(texts), np.object_)
        made[:] = texts
        return made.reshape(array.shape)
    wanted = NUMPY[spec.datatype]
    return array.astype(wanted) if np.can_cast(array.dtype, wanted, "same_kind") else array
