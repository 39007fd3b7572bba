"""What a replica counts is what it handed out, whichever way the calls came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.inference import Answer
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.placement.party import parts
from mofang.base.placement.tally import count_party, metered

MEMBERS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5)), min_size=1, max_size=20)


class Counted:
    def __init__(self) -> None:
        self.sums: Counter[tuple[str, str]] = Counter()

    def add(self, key: str, quantities: Mapping[str, int]) -> None:
        self.sums.update({(key, meter): quantity for meter, quantity in quantities.items()})

    def close(self) -> None:
        pass


@dataclass
class Party:
    tenants: list[tuple[str, float, int]]
    rows_of: list[int]

    @property
    def rows(self) -> int:
        return sum(self.rows_of)

    @property
    def inputs(self) -> dict[str, Array]:
        return {}

    def computed(self, answer: Answer, /) -> None:
        pass


@given(MEMBERS, st.integers(0, 10_000))
def test_a_party_is_counted_as_its_calls_would_be(members: list[tuple[str, int]], compute_us: int) -> None:
    runs = [(tenant, 1.0, len(list(run))) for tenant, run in groupby(tenant for tenant, _ in members)]
    party = Party(runs, [rows for _, rows in members])
    answer = Answer({"y": np.zeros((party.rows, 1), np.float32)}, compute_us, 0, party.rows)
    counted, expected = Counted(), Counted()
    count_party(counted, party, answer)
    for (tenant, rows), part in zip(members, parts(answer, party.rows_of), strict=True):
        expected.add(tenant, {"requests": 1, "rows": rows, "compute_us": part.compute_us})
    assert counted.sums == expected.sums
    assert sum(us for (_, meter), us in counted.sums.items() if meter == "compute_us") == compute_us


def test_outputs_that_are_meters_are_known_by_their_names() -> None:
    outputs = (TensorSpec("y", "FP32", (-1,)), TensorSpec("input_tokens", "INT64", (-1,)))
    assert metered(Signature((), outputs)) == ("input_tokens",)
