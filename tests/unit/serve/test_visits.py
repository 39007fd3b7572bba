"""W3C trace contexts, as clients write them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.run.serve.visits import Trace

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HEX = "0123456789abcdef"


def test_our_span_is_a_child_of_the_clients_in_its_trace() -> None:
    trace = Trace.of(PARENT)
    assert trace is not None
    assert (trace.trace_id, trace.parent_id, trace.sampled) == (PARENT[3:35], PARENT[36:52], True)
    assert re.fullmatch(rf"00-{trace.trace_id}-{trace.span_id}-01", str(trace))
    assert trace.span_id != trace.parent_id


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "nonsense",
        PARENT.upper(),
        PARENT.replace("00-4bf", "ff-4bf"),
        PARENT + "-more",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
    ],
)
def test_what_is_no_trace_parent_is_ignored(text: str | None) -> None:
    assert Trace.of(text) is None


def test_a_later_version_may_say_more() -> None:
    trace = Trace.of(PARENT.replace("00-4bf", "cc-4bf") + "-more")
    assert trace is not None
    assert trace.trace_id == PARENT[3:35]


@given(
    trace_id=st.text(HEX, min_size=32, max_size=32).filter(lambda text: int(text, 16)),
    span_id=st.text(HEX, min_size=16, max_size=16).filter(lambda text: int(text, 16)),
    flags=st.integers(0, 255),
)
def test_every_trace_parent_is_read(trace_id: str, span_id: str, flags: int) -> None:
    trace = Trace.of(f"00-{trace_id}-{span_id}-{flags:02x}")
    assert trace is not None
    assert (trace.trace_id, trace.parent_id, trace.sampled) == (trace_id, span_id, bool(flags & 1))


@given(st.text(max_size=80))
def test_any_text_is_a_trace_parent_or_ignored(text: str) -> None:
    trace = Trace.of(text)
    assert trace is None or text.strip().startswith(f"{text.strip()[:2]}-{trace.trace_id}-{trace.parent_id}-")
