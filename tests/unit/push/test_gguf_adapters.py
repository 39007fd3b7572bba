"""A LoRA adapter as llama.cpp has it: a GGUF file, looked into before any engine sees it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from ggufs import LORA_KEYS, LORA_ROWS, TEXT, Row, gguf, key, text
from mofang.base.domain.errors import InvalidModel
from mofang.base.engines.adapters import read_gguf_adapter

KEYS, (A, B) = LORA_KEYS, LORA_ROWS
WEIGHTS = 512 + 1024


def written(folder: Path, keys: Sequence[bytes] = KEYS, rows: Sequence[Row] = (A, B), weights: int = WEIGHTS) -> Path:
    path = folder / "some.gguf"
    path.write_bytes(gguf(keys, rows, weights=weights))
    return path


def test_what_an_adapter_changes_is_told(tmp_path: Path) -> None:
    assert read_gguf_adapter(written(tmp_path)) == ("llama", {"blk.0.attn_q.weight": (32, 64)})
    looked_up = (A.but(name=b"token_embd.weight.lora_a", shape=(4, 32)), B.but(name=b"token_embd.weight.lora_b"))
    assert read_gguf_adapter(written(tmp_path, rows=looked_up))[1] == {"token_embd.weight": (64, 32)}


@pytest.mark.parametrize(
    ("keys", "rows", "weights", "words"),
    [
        (KEYS, (A, B), WEIGHTS - 8, "cut short"),
        ((KEYS[0], *KEYS[2:]), (A, B), WEIGHTS, "of the kind"),
        ((*KEYS[:2], key(b"adapter.type", TEXT, text(b"control")), KEYS[3]), (A, B), WEIGHTS, "of the kind 'control'"),
        (KEYS[:3], (A, B), WEIGHTS, "no number"),
        ((*KEYS[:3], key(b"adapter.lora.alpha", 6, struct.pack("<f", float("nan")))), (A, B), WEIGHTS, "no number"),
        (KEYS, (A,), WEIGHTS, "no half of a pair"),
        (KEYS, (A, B.but(name=b"blk.0.attn_k.weight.lora_b")), WEIGHTS, "no half of a pair"),
        (KEYS, (A, B.but(name=b"blk.0.attn_q.weight")), WEIGHTS, "no half of a pair"),
        (KEYS, (A, B.but(shape=(8, 32))), WEIGHTS, "no pair"),
        (KEYS, (A.but(shape=(128,)), B), WEIGHTS, "no pair"),
    ],
)
def test_what_is_no_whole_adapter_is_refused_in_words(
    tmp_path: Path, keys: Sequence[bytes], rows: Sequence[Row], weights: int, words: str
) -> None:
    with pytest.raises(InvalidModel, match=words):
        read_gguf_adapter(written(tmp_path, keys, rows, weights))
