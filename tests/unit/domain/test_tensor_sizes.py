"""How large tensors are, for bounds and for the bill."""

import numpy as np
import pytest

from mofang.base.domain.tensors import Array, size_bytes


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((2, 3), np.float32), 24),
        (np.zeros((0, 3), np.int64), 0),
        (np.array([[b"a", b"longer"], [b"", b"xyz"]], np.object_), 10),
        (np.array(True), 1),
    ],
)
def test_the_bytes_of_texts_are_counted_not_their_pointers(array: Array, expected: int) -> None:
    assert size_bytes(array) == expected
