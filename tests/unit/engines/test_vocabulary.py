"""Which bytes tokens stand for."""

from __future__ import annotations

from mofang.base.engines.vocabulary import token_bytes


def test_each_byte_is_one_character() -> None:
    words = {"Ġthe": 0, "Ã©": 1, "ä¸": 2, "<|end|>": 3, "Ċ": 4}
    found = token_bytes(words, {3: ""}, byte_level=True)
    assert found == [b" the", "é".encode(), "中".encode()[:2], b"", b"\n"]


def test_sentencepiece_writes_spaces_and_single_bytes_its_own_way() -> None:
    found = token_bytes({"\u2581the": 0, "<0x0A>": 1, "é": 2}, {3: "<tool>"}, byte_level=False)
    assert found == [b" the", b"\n", "é".encode(), b"<tool>"]
