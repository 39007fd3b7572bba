"""Look at a GGUF file somebody pushed: is it whole, and what does it say of itself?

Engines of language models map such a file into memory and follow its counts and offsets without a second look: one that
was cut short, or forged, ends their process. So everything they would follow is checked here, against the size of the
file, before any of them sees it. Pure: it reads the header in bounded steps, and no weights.

The format is that of ggml, versions 2 and 3: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from mofang.base.domain.errors import InvalidModel

MAGIC = b"GGUF"

Scalar = int | float | bool | str

_VERSIONS = (2, 3)
_SCALARS: Mapping[int, str] = MappingProxyType(
    {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
)
_BOOL, _STRING, _ARRAY = 7, 8, 9
_BLOCKS: Mapping[int, tuple[str, int, int]] = MappingProxyType(
    {
        0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
        7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
        12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
        16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
        20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
        24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
        29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
        39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36),
    }
)  # fmt: skip
"""Of each type of tensor that files hold: its name, how many weights are in one block, and the block's bytes."""

_MOST_STRING_BYTES = 16 << 20  # chat templates have some ten thousand
_MOST_NAME_BYTES = 63  # ggml keeps names in 64 bytes
_MOST_TENSORS = 1 << 20
_MOST_KEYS = 1 << 16
_MOST_DIMENSIONS = 4
_MOST_WEIGHTS = 1 << 62
_LEAST_KEY_BYTES, _LEAST_TENSOR_BYTES = 8 + 1 + 4 + 1, 8 + 1 + 4 + 8 + 4 + 8


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor: its shape (innermost first, as the file has it), type, and where it lies in the file, in bytes."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GgufArray:
    """An array among the metadata, such as the words of the tokenizer: only how many values it has is kept."""

    length: int


@dataclass(frozen=True, slots=True)
class Gguf:
    """What a whole, consistent GGUF file says of itself."""

    version: int
    metadata: Mapping[str, Scalar | GgufArray]
    tensors: tuple[GgufTensor, ...]

    @property
    def architecture(self) -> str:
        """The kind of network, e.g. ``llama``."""
        return str(self.metadata["general.architecture"])

    @property
    def context_length(self) -> int:
        """How many tokens it was trained to see at once; 0 if the file does not say."""
        return self.count("context_length")

    @property
    def vocabulary(self) -> int:
        """How many tokens its tokenizer knows; 0 if it has none."""
        words = self.metadata.get("tokenizer.ggml.tokens")
        return words.length if isinstance(words, GgufArray) else 0

    @property
    def chat_template(self) -> str:
        """The Jinja template of conversations; empty if there is none."""
        return str(self.metadata.get("tokenizer.chat_template", ""))

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    def count(self, name: str) -> int:
        """Return a number the file says of its architecture, e.g. of ``block_count``; 0 if it does not say."""
        found = self.metadata.get(f"{self.architecture}.{name}")
        return found if isinstance(found, int) else 0


def read_gguf(path: Path) -> Gguf:
    """Read and check the header of the GGUF file at ``path``.

    Every length, count and offset lies inside the file, no key or tensor is there twice, and no two tensors overlap.
    Raises InvalidModel with one sentence that says what is wrong and where.
    """
    with path.open("rb") as file:
        reader = _Reader(file, os.fstat(file.fileno()).st_size)
        if reader.take(4, "the magic") != MAGIC:
            raise InvalidModel("the file is not a GGUF model", hint="push a file that begins with the letters GGUF")
        version = _check_version(reader.number("<I", "the version"))
        tensors = reader.count(_LEAST_TENSOR_BYTES, _MOST_TENSORS, "tensors")
        keys = reader.count(_LEAST_KEY_BYTES, _MOST_KEYS, "metadata keys")
        metadata = _read_metadata(reader, keys)
        found = _read_tensors(reader, tensors, _check_metadata(metadata))
    _check_extents(found, reader.size)
    return Gguf(version, MappingProxyType(metadata), tuple(found))


class _Reader:
    """Reads little-endian values, never beyond the end of the file and never much at once."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size
        self.at = 0

    def take(self, length: int, what: str) -> bytes:
        if length > self.size - self.at:
            raise _cut(f"it ends inside {what}, at byte {self.size:,}")
        self.at += length
        return self._file.read(length)

    def number(self, form: str, what: str) -> int:
        value: int = struct.unpack(form, self.take(struct.calcsize(form), what))[0]
        return value

    def count(self, least_bytes: int, most: int, what: str) -> int:
        """Read how many of ``what`` follow, each at least ``least_bytes`` long."""
        found = self.number("<Q", f"the number of {what}")
        if found > most or found * least_bytes > self.size - self.at:
            raise _damaged(f"it announces {found:,} {what}, more than its {self.size:,} bytes can hold")
        return found

    def text(self, most: int, what: str) -> str:
        length = self.number("<Q", f"the length of {what}")
        if length > most:
            raise _damaged(f"{what} is {length:,} bytes long, at most {most:,} are read")
        try:
            return self.take(length, what).decode()
        except UnicodeDecodeError:
            raise _damaged(f"{what} is not UTF-8") from None

    def skip_texts(self, how_many: int, what: str) -> None:
        for _ in range(how_many):
            length = self.number("<Q", what)
            if length > _MOST_STRING_BYTES:
                raise _damaged(f"{what} has a text of {length:,} bytes")
            self.take(length, what)

    def skip(self, length: int, what: str) -> None:
        if length > self.size - self.at:
            raise _cut(f"it ends inside {what}, at byte {self.size:,}")
        self.at += length
        self._file.seek(self.at)


def _check_version(version: int) -> int:
    if version in _VERSIONS:
        return version
    if int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS:
        raise InvalidModel("the GGUF file is big-endian", hint="convert it for little-endian machines and push that")
    raise InvalidModel(f"the GGUF file is of version {version}, 2 and 3 are read", hint="convert it again")


def _read_metadata(reader: _Reader, keys: int) -> dict[str, Scalar | GgufArray]:
    metadata: dict[str, Scalar | GgufArray] = {}
    for index in range(keys):
        key = reader.text(1 << 16, f"the name of metadata key {index}")
        if key in metadata:
            raise _damaged(f"metadata key {key!r} is there twice")
        metadata[key] = _read_value(reader, reader.number("<I", f"the type of {key!r}"), f"the value of {key!r}")
    return metadata


def _read_value(reader: _Reader, kind: int, what: str) -> Scalar | GgufArray:
    if kind == _STRING:
        return reader.text(_MOST_STRING_BYTES, what)
    if kind == _ARRAY:
        return _skip_array(reader, what)
    form = _SCALARS.get(kind)
    if form is None:
        raise _damaged(f"{what} has the unknown type {kind}")
    value: int | float = struct.unpack(form, reader.take(struct.calcsize(form), what))[0]
    return bool(value) if kind == _BOOL else value


def _skip_array(reader: _Reader, what: str) -> GgufArray:
    kind = reader.number("<I", what)
    if kind == _STRING:
        length = reader.count(8, reader.size, f"texts in {what}")
        reader.skip_texts(length, what)
    elif kind in _SCALARS:
        size = struct.calcsize(_SCALARS[kind])
        length = reader.count(size, reader.size, f"values in {what}")
        reader.skip(length * size, what)
    else:
        raise _damaged(f"{what} is an array of the unknown type {kind}")
    return GgufArray(length)


def _check_metadata(metadata: Mapping[str, Scalar | GgufArray]) -> int:
    """Check what engines take for granted; return the alignment of tensors."""
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise _damaged("it does not say its architecture (metadata key 'general.architecture')")
    parts = metadata.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        raise InvalidModel(
            f"the GGUF file is one part of {parts}",
            hint="join them with `llama-gguf-split --merge` and push the result",
        )
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment > 1 << 20 or alignment & (alignment - 1):
        raise _damaged(f"its alignment is {alignment!r}, no power of two")
    return alignment


def _read_tensors(reader: _Reader, tensors: int, alignment: int) -> list[GgufTensor]:
    if not tensors:
        raise InvalidModel("the GGUF file has no tensors, only a header", hint="push the file with the weights")
    found, names = [], set()
    for index in range(tensors):
        tensor = _read_tensor(reader, index, alignment)
        if tensor.name in names:
            raise _damaged(f"tensor {tensor.name!r} is there twice")
        names.add(tensor.name)
        found.append(tensor)
    start = reader.at + -reader.at % alignment
    return [GgufTensor(each.name, each.shape, each.type, start + each.offset, each.size_bytes) for each in found]


def _read_tensor(reader: _Reader, index: int, alignment: int) -> GgufTensor:
    """Read one entry of the table; its offset counts from where the weights begin."""
    name = reader.text(_MOST_NAME_BYTES, f"the name of tensor {index}")
    what = f"tensor {name!r}"
    dimensions = reader.number("<I", f"the shape of {what}")
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise _damaged(f"{what} has {dimensions} dimensions, 1 to {_MOST_DIMENSIONS} are possible")
    shape = struct.unpack(f"<{dimensions}Q", reader.take(8 * dimensions, f"the shape of {what}"))
    weights, kind = math.prod(shape), reader.number("<I", f"the type of {what}")
    if not 0 < weights <= _MOST_WEIGHTS:
        raise _damaged(f"{what} has the impossible shape {list(shape)}")
    if kind not in _BLOCKS:
        raise InvalidModel(
            f"{what} of the GGUF file has the unknown type {kind}", hint="quantise it to a usual type, e.g. Q4_K_M"
        )
    named, per_block, block_bytes = _BLOCKS[kind]
    offset = reader.number("<Q", f"the offset of {what}")
    if shape[0] % per_block:
        raise _damaged(f"rows of {what} have {shape[0]:,} weights, which are no whole blocks of {named} ({per_block})")
    if offset % alignment:
        raise _damaged(f"{what} begins at {offset:,}, which is no multiple of the alignment {alignment}")
    return GgufTensor(name, shape, named, offset, weights // per_block * block_bytes)


def _check_extents(tensors: list[GgufTensor], size: int) -> None:
    end, before = 0, ""
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        if tensor.offset < end:
            raise _damaged(f"tensors {before!r} and {tensor.name!r} overlap")
        end, before = tensor.offset + tensor.size_bytes, tensor.name
        if end > size:
            raise _cut(f"tensor {tensor.name!r} ends at byte {end:,} of {size:,}")


def _cut(what: str) -> InvalidModel:
    return InvalidModel(f"the GGUF file is cut short: {what}", hint="copy or download it again and compare the sizes")


def _damaged(what: str) -> InvalidModel:
    return InvalidModel(f"the GGUF file is damaged: {what}", hint="copy, download or convert it again")
