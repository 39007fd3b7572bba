"""Small GGUF files for tests, written value by value, so that each one of them can be made wrong."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

TEXT, ARRAY = 8, 9


@dataclass(frozen=True)
class Row:
    """An entry of the table of tensors; ``offset`` counts from where the weights begin."""

    name: bytes = b"token_embd.weight"
    shape: tuple[int, ...] = (32, 4)
    kind: int = 0
    offset: int = 0

    def but(self, **changed: Any) -> Row:
        return replace(self, **changed)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def texts(values: Sequence[bytes]) -> bytes:
    return struct.pack("<IQ", TEXT, len(values)) + b"".join(text(value) for value in values)


ARCHITECTURE = key(b"general.architecture", TEXT, text(b"llama"))
KEYS = (
    ARCHITECTURE,
    key(b"llama.context_length", 4, struct.pack("<I", 2048)),
    key(b"llama.rope.freq_base", 6, struct.pack("<f", 10000.0)),
    key(b"tokenizer.ggml.add_bos_token", 7, b"\1"),
    key(b"tokenizer.ggml.tokens", ARRAY, texts([b"<s>", b"a", b"b"])),
    key(b"tokenizer.ggml.scores", ARRAY, struct.pack("<IQ3f", 6, 3, 0.0, 1.0, 2.0)),
    key(b"tokenizer.chat_template", TEXT, text(b"{{ messages }}")),
)
ROWS = (Row(), Row(b"output.weight", (32, 4), 8, 512))
LORA_KEYS = (
    ARCHITECTURE,
    key(b"general.type", TEXT, text(b"adapter")),
    key(b"adapter.type", TEXT, text(b"lora")),
    key(b"adapter.lora.alpha", 6, struct.pack("<f", 16.0)),
)
LORA_ROWS = (
    Row(b"blk.0.attn_q.weight.lora_a", (32, 4)),
    Row(b"blk.0.attn_q.weight.lora_b", (4, 64), offset=512),
)
"""Of an adapter that changes a weight of 32 inputs and 64 outputs, in 1,536 bytes."""


def gguf(
    keys: Sequence[bytes] = KEYS,
    rows: Sequence[Row] = ROWS,
    *,
    version: int = 3,
    key_count: int | None = None,
    row_count: int | None = None,
    weights: int = 512 + 4 * 34,
) -> bytes:
    """Return the bytes of a file; counts and the number of bytes of weights may be lies."""
    counts = (len(rows) if row_count is None else row_count, len(keys) if key_count is None else key_count)
    head = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(keys)
    for row in rows:
        dims = struct.pack(f"<I{len(row.shape)}Q", len(row.shape), *row.shape)
        head += text(row.name) + dims + struct.pack("<IQ", row.kind, row.offset)
    return head + bytes(-len(head) % 32) + bytes(weights)
