"""Calibration files that cannot be read are refused in words, whatever numpy makes of them."""

import io
import zipfile

import pytest

from mofang.base.domain.errors import Invalid
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.make.compress.sample import read_sample, read_texts

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), ())
HEADER = b"\x93NUMPY\1\0\x10\0{'descr': '<f8',"


def _archived(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", content)
    return file.getvalue()


@pytest.mark.parametrize("data", [b"", HEADER, _archived(HEADER), b"PK\x03\x04"])
def test_a_damaged_calibration_file_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid, match=r"the calibration file 'a\.npz' cannot be read"):
        read_sample(data, "a.npz", SIGNATURE)


def test_a_member_that_is_no_array_is_refused() -> None:
    with pytest.raises(Invalid):
        read_sample(_archived(b"no array"), "a.npz", SIGNATURE)


def test_texts_lie_between_empty_lines_or_on_lines() -> None:
    texts = [f"This is\ntext {number}." for number in range(9)]
    assert read_texts("\r\n \r\n".join(texts).replace("\n", "\r\n").replace("\r\r", "\r").encode(), "a.txt") == texts
    lines = [f"Line {number}" for number in range(9)]
    assert read_texts(("\ufeff" + "\n".join(lines)).encode(), "a.txt") == lines


@pytest.mark.parametrize(("data", "said"), [(b"\xff\xfe", "is no text in UTF-8"), (b"one text", "has 1 texts")])
def test_what_is_no_text_or_too_little_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(Invalid, match=said) as refused:
        read_texts(data, "a.txt")
    assert "8 texts or more" in refused.value.hint
