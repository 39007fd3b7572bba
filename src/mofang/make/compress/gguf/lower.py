"""Fewer bits: the weights of a GGUF file written again in blocks of 32 integers with a scale, as ggml knows them.

What llama.cpp keeps exact stays as it is: vectors, what routes experts, convolutions, rows that are no whole blocks.
The header is kept but for what it says of the type of weights.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from gguf import (
    GGML_QUANT_SIZES,
    GGMLQuantizationType,
    GGUFReader,
    GGUFValueType,
    GGUFWriter,
    Keys,
    LlamaFileType,
    ReaderField,
    quant_shape_to_byte_shape,
)
from gguf.quants import dequantize, quantize

from mofang.base.domain.errors import NoVariant
from mofang.base.engines.gguf import read_gguf
from mofang.make.compress.bits import EXACT, gguf_file, usual
from mofang.make.compress.step import Lower, Width
from mofang.make.compress.subject import Means, Subject

ENDS = ("token_embd.weight", "output.weight")
"""What turns tokens into numbers and back: what is lost there, every token loses."""
_SENSITIVE = ("ffn_gate_inp", "conv1d", "ssm_", "position_embd", "token_types", "rel_b", "time_mix", "_norm")
_VERSION = 2  # of the blocks' layout
_FILE_TYPES = {name: LlamaFileType[f"MOSTLY_{name.upper()}"] for name in get_args(Width)}


def lower(step: Lower, subject: Subject, means: Means) -> Subject:
    """Return ``subject`` with its weights in fewer bits. Raises NoVariant if there are none that have more."""
    assert subject.folder is not None
    path = gguf_file(subject.folder)
    about = read_gguf(path)  # what follows trusts its counts and offsets
    reader = GGUFReader(path)
    planned = [_Planned(tensor, _wanted(step, tensor)) for tensor in reader.tensors]
    if all(each.wanted == each.tensor.tensor_type for each in planned):
        raise NoVariant(f"most of its weights are {usual(about)}: there is nothing to write in {step.weights}")
    folder = means.scratch()
    shutil.copytree(subject.folder, folder, ignore=shutil.ignore_patterns(path.name), dirs_exist_ok=True)
    writer = _header(reader, folder / path.name, step)
    for each in planned:
        writer.add_tensor_info(each.tensor.name, each.shape, each.dtype, each.size_bytes, each.wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for number, each in enumerate(planned):
        means.progress.report("compress", number / len(planned), f"{step}: tensor {number + 1} of {len(planned)}")
        writer.write_tensor_data(each.data())
    writer.close()
    return replace(subject, folder=folder)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A tensor, and the type it is to have."""

    tensor: Any
    wanted: GGMLQuantizationType

    @property
    def shape(self) -> tuple[int, ...]:
        """As numpy has it: in bytes, if it is in blocks."""
        shape = tuple(int(size) for size in reversed(self.tensor.shape))
        return quant_shape_to_byte_shape(shape, self.wanted) if self._blocks else shape

    @property
    def dtype(self) -> Any:
        return np.dtype(np.uint8) if self._blocks else self.tensor.data.dtype

    @property
    def size_bytes(self) -> int:
        per_block, block_bytes = GGML_QUANT_SIZES[self.wanted]
        return int(math.prod(int(size) for size in self.tensor.shape) // per_block * block_bytes)

    def data(self) -> Any:
        """Return the weights in the type they are to have."""
        if self.wanted == self.tensor.tensor_type:
            return self.tensor.data
        return quantize(dequantize(self.tensor.data, self.tensor.tensor_type), self.wanted)

    @property
    def _blocks(self) -> bool:
        return bool(self.tensor.data.dtype == np.uint8 or self.wanted != self.tensor.tensor_type)


def _wanted(step: Lower, tensor: Any) -> GGMLQuantizationType:
    """Return the type that ``tensor`` is to have: its own, unless that takes more bytes and loses nothing yet."""
    found: GGMLQuantizationType = tensor.tensor_type
    name: str = tensor.name
    wanted = GGMLQuantizationType[(step.ends or step.weights if name in ENDS else step.weights).upper()]
    per_block, block_bytes = GGML_QUANT_SIZES[wanted]
    per_block_now, block_bytes_now = GGML_QUANT_SIZES[found]
    is_matrix = len(tensor.shape) > 1 and name.endswith(".weight") and not any(each in name for each in _SENSITIVE)
    is_larger = block_bytes_now / per_block_now > block_bytes / per_block
    fits = int(tensor.shape[0]) % per_block == 0
    return wanted if is_matrix and is_larger and fits and found.name in EXACT else found


def _header(reader: GGUFReader, path: Path, step: Lower) -> GGUFWriter:
    """Return a writer to ``path`` with the metadata of ``reader``, and with the type that most weights will have."""
    own = {Keys.General.ARCHITECTURE, Keys.General.FILE_TYPE, Keys.General.QUANTIZATION_VERSION}
    writer = GGUFWriter(path, str(reader.fields[Keys.General.ARCHITECTURE].contents()))
    writer.data_alignment = reader.alignment
    for field in reader.fields.values():
        if field.name not in own and not field.name.startswith("GGUF."):
            _copy(field, writer)
    writer.add_quantization_version(_VERSION)
    writer.add_file_type(_FILE_TYPES[step.weights])
    return writer


def _copy(field: ReaderField, writer: GGUFWriter) -> None:
    """Write metadata as it is; texts in the very bytes, which need not be characters."""
    kind = field.types[0]
    of = field.types[-1] if kind == GGUFValueType.ARRAY else None
    value: Any = field.contents() if (of or kind) != GGUFValueType.STRING else [
        field.parts[at].tobytes() for at in field.data
    ]  # fmt: skip
    if of is None:
        writer.add_key_value(field.name, value[0] if kind == GGUFValueType.STRING else value, kind)
    elif value:  # an empty list says nothing, and has no place in the library's writer
        writer.add_key_value(field.name, value, kind, of)
