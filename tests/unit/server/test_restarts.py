"""When a process is started again."""

from mofang.surface.server.restarts import CRASH_LOOP, ProcessState, delay, describe_exit, recent


def test_the_first_end_costs_no_wait_and_the_next_ones_more_and_more() -> None:
    delays = [delay([100.0 - n for n in range(ends)], 100.0) for ends in range(8)]
    assert delays[:2] == [0.0, 0.0]
    assert delays == sorted(delays)
    assert delays[-1] == 15.0


def test_ends_are_forgotten_after_a_minute() -> None:
    assert recent([10.0, 60.0, 99.0], 100.0) == [60.0, 99.0]
    assert delay([1.0, 2.0, 3.0], 100.0) == 0.0


def test_a_crash_loop_is_seen() -> None:
    assert not ProcessState("p", "running", exits=CRASH_LOOP - 1).looping
    assert ProcessState("p", "waiting", exits=CRASH_LOOP).looping


def test_an_end_is_described() -> None:
    assert describe_exit(-9) == "signal 9"
    assert describe_exit(3) == "exit code 3"
