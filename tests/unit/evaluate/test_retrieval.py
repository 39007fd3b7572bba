"""Ranks of neighbours, which recall and mean reciprocal rank are made of."""

import numpy as np

from mofang.make.evaluate.retrieval import first_ranks


def test_ranks_count_neighbours_by_cosine_and_are_endless_without_one() -> None:
    pool = np.array([[1, 0], [0, 5], [1, 1]], np.float32)
    ranks = first_ranks(np.array([[9, 1], [0, 1], [1, 0]], np.float32), np.array([1, 1, 2]), pool, np.array([0, 1, 1]))
    assert ranks.tolist() == [2, 1, np.inf]
