"""What a long step says of the time left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.progress import Pace

SECONDS = st.floats(0.01, 1e4)


@given(found_done=st.integers(0, 50), more=st.integers(2, 50), setup=SECONDS, each=SECONDS)
def test_time_left_knows_neither_the_stage_before_nor_steps_that_were_found_done(
    found_done: int, more: int, setup: float, each: float
) -> None:
    pace, total = Pace(), found_done + more
    assert pace.left(0, 1, 0.0) is None, "scores come first, once"
    for step in range(found_done, total + 1):
        left = pace.left(step, total, setup + each * (step - found_done))
        if total > 1 and step > found_done:
            assert left == pytest.approx(each * (total - step), rel=1e-6, abs=1e-6)
        else:
            assert left is None


def test_a_second_round_of_as_many_steps_begins_anew() -> None:
    pace = Pace()
    assert [pace.left(step, 4, now) for step, now in ((1, 100.0), (2, 101.0), (1, 500.0), (2, 502.0))] == [
        None,
        2.0,
        None,
        4.0,
    ]
