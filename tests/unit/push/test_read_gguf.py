"""GGUF files: what a whole one says, and that no engine ever sees one that is not."""

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ggufs import ARCHITECTURE, ARRAY, KEYS, ROWS, TEXT, Row, gguf, key, text
from mofang.base.domain.errors import InvalidModel
from mofang.base.engines.gguf import GgufArray, read_gguf
from mofang.make.convert.gguf import engine_for

WHOLE = gguf()
FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _read(folder: Path, content: bytes):  # type: ignore[no-untyped-def]
    path = folder / "model.gguf"
    path.write_bytes(content)
    return read_gguf(path)


def _refused(folder: Path, content: bytes) -> str:
    with pytest.raises(InvalidModel) as caught:
        _read(folder, content)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("version", [2, 3])
def test_a_whole_file_tells_what_it_is(tmp_path: Path, version: int) -> None:
    found = _read(tmp_path, gguf(version=version))
    assert (found.version, found.architecture, found.context_length) == (version, "llama", 2048)
    assert (found.vocabulary, found.chat_template, found.parameters) == (3, "{{ messages }}", 256)
    assert found.metadata["tokenizer.ggml.add_bos_token"] is True
    assert found.metadata["llama.rope.freq_base"] == 10000.0
    assert found.metadata["tokenizer.ggml.scores"] == GgufArray(3)
    first, second = found.tensors
    assert (first.name, first.shape, first.type, first.size_bytes) == ("token_embd.weight", (32, 4), "F32", 512)
    assert (second.type, second.size_bytes, second.offset - first.offset) == ("Q8_0", 136, 512)
    assert second.offset + second.size_bytes == len(WHOLE)


@pytest.mark.parametrize(
    ("keys", "rows", "processor", "engine", "why"),
    [
        (KEYS, ROWS, "x86_64", "openvino", "reads 'llama'"),
        (KEYS, ROWS, "aarch64", "llamacpp", "aarch64"),
        ((key(b"general.architecture", TEXT, text(b"rwkv7")), *KEYS[1:]), ROWS, "x86_64", "llamacpp", "'rwkv7'"),
        ((*KEYS, key(b"llama.expert_count", 4, b"\10\0\0\0")), ROWS, "x86_64", "llamacpp", "experts"),
        (KEYS, (ROWS[0], ROWS[1].but(kind=6)), "x86_64", "llamacpp", "Q5_0"),
    ],
)
def test_the_usual_engine_is_one_that_can(
    tmp_path: Path, keys: Sequence[bytes], rows: Sequence[Row], processor: str, engine: str, why: str
) -> None:
    (tmp_path / "model.gguf").write_bytes(gguf(keys, rows))
    chosen, reason = engine_for(tmp_path, processor)
    assert chosen == engine
    assert why in reason


def test_what_a_file_does_not_say_is_empty(tmp_path: Path) -> None:
    found = _read(tmp_path, gguf([ARCHITECTURE]))
    assert (found.context_length, found.vocabulary, found.chat_template) == (0, 0, "")


WRONG = {
    "is not a GGUF model": b"GGML" + WHOLE[4:],
    "is of version 1, 2 and 3 are read": gguf(version=1),
    "is big-endian": gguf(version=3 << 24),
    "announces 18,446,744,073,709,551,615 tensors": gguf(row_count=2**64 - 1),
    "announces 1,152,921,504,606,846,976 metadata keys": gguf(key_count=2**60),
    "has no tensors, only a header": gguf(rows=[]),
    "does not say its architecture": gguf(KEYS[1:]),
    "key 'general.architecture' is there twice": gguf([ARCHITECTURE, ARCHITECTURE]),
    "the value of 'x' has the unknown type 13": gguf([*KEYS, key(b"x", 13, bytes(8))]),
    "'x' is an array of the unknown type 9": gguf([*KEYS, key(b"x", ARRAY, struct.pack("<IQ", ARRAY, 1) + bytes(64))]),
    "announces 1,152,921,504,606,846,976 values in the value of 'x'": gguf(
        [*KEYS, key(b"x", ARRAY, struct.pack("<IQ", 10, 2**60))]
    ),
    "announces 9,223,372,036,854,775,808 texts in": gguf([*KEYS, key(b"x", ARRAY, struct.pack("<IQ", TEXT, 2**63))]),
    "the value of 'x' is 18,446,744,073,709,551,615 bytes long": gguf([*KEYS, key(b"x", TEXT, b"\xff" * 8)]),
    "the value of 'x' is not UTF-8": gguf([*KEYS, key(b"x", TEXT, text(b"\xff"))]),
    "its alignment is 48, no power of two": gguf([*KEYS, key(b"general.alignment", 4, struct.pack("<I", 48))]),
    "its alignment is 0, no power": gguf([*KEYS, key(b"general.alignment", 4, bytes(4))]),
    "is one part of 3": gguf([*KEYS, key(b"split.count", 2, struct.pack("<H", 3))]),
    "tensor 'token_embd.weight' is there twice": gguf(rows=[Row(), Row(offset=512)]),
    "has 5 dimensions": gguf(rows=[Row(shape=(32, 1, 1, 1, 1))]),
    "has 0 dimensions": gguf(rows=[Row(shape=())]),
    "has the impossible shape [32, 0]": gguf(rows=[Row(shape=(32, 0))]),
    "has the impossible shape [4294967296, 4294967296, 4294967296]": gguf(rows=[Row(shape=(2**32,) * 3)]),
    "has the unknown type 4": gguf(rows=[Row(kind=4)]),
    "no whole blocks of Q8_0 (32)": gguf(rows=[Row(shape=(33, 4), kind=8)]),
    "no multiple of the alignment 32": gguf(rows=[Row(offset=4)]),
    "the name of tensor 0 is 64 bytes long": gguf(rows=[Row(name=b"n" * 64)]),
    "tensors 'token_embd.weight' and 'output.weight' overlap": gguf(rows=[ROWS[0], ROWS[1].but(offset=480)]),
    "tensor 'output.weight' ends at byte": gguf(rows=[ROWS[0], ROWS[1].but(offset=544)]),
    "tensor 'token_embd.weight' ends at byte": gguf(rows=[Row(offset=2**64 - 32)]),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, message: str) -> None:
    assert message in _refused(tmp_path, WRONG[message])


@pytest.mark.parametrize("length", range(0, len(WHOLE), 7))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, length: int) -> None:
    assert "cut short" in (said := _refused(tmp_path, WHOLE[:length])) or "more than its" in said


@FUZZ
@given(at=st.integers(0, len(WHOLE) - 1), value=st.binary(min_size=1, max_size=8))
@example(at=8, value=b"\xff" * 8)
def test_a_file_changed_anywhere_is_read_inside_its_bounds_or_refused(tmp_path: Path, at: int, value: bytes) -> None:
    content = (WHOLE[:at] + value + WHOLE[at + len(value) :])[: len(WHOLE)]
    try:
        found = _read(tmp_path, content)
    except InvalidModel:
        return
    assert all(0 < each.offset <= each.offset + each.size_bytes <= len(content) for each in found.tensors)


@FUZZ
@given(st.binary(max_size=200))
def test_noise_after_the_magic_is_refused(tmp_path: Path, noise: bytes) -> None:
    _refused(tmp_path, b"GGUF" + noise)
