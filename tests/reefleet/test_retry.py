import random
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reefleet.errors import ConfigError
from reefleet.retry import Retry


def test_waits_grow_by_the_factor_up_to_the_ceiling() -> None:
    retry = Retry(base_s=1, factor=2, ceiling_s=5, jitter=0)
    assert list(islice(retry.delays(random.Random(0)), 5)) == [1, 2, 4, 5, 5]


def test_waits_end_when_the_total_is_spent() -> None:
    retry = Retry(base_s=1, factor=2, ceiling_s=10, total_s=6, jitter=0)
    assert list(retry.delays(random.Random(0))) == [1, 2, 3]


def test_a_total_of_zero_means_no_further_attempt() -> None:
    assert list(Retry(total_s=0).delays(random.Random(0))) == []


@given(st.integers(), st.floats(0, 1))
def test_jitter_only_shortens_a_wait_and_by_no_more_than_its_share(seed: int, share: float) -> None:
    plain = Retry(base_s=1, factor=3, ceiling_s=20, jitter=0)
    random_one = Retry(base_s=1, factor=3, ceiling_s=20, jitter=share)
    waits = zip(
        plain.delays(random.Random(seed)), random_one.delays(random.Random(seed)), strict=False
    )
    for full, drawn in islice(waits, 6):
        assert full * (1 - share) <= drawn <= full


@given(st.integers(), st.floats(0.1, 100))
def test_the_sum_of_waits_is_the_total(seed: int, total_s: float) -> None:
    retry = Retry(base_s=0.5, ceiling_s=8, total_s=total_s)
    assert sum(retry.delays(random.Random(seed))) == pytest.approx(total_s)


@pytest.mark.parametrize(
    "values",
    [
        {"base_s": 0},
        {"factor": 0.5},
        {"ceiling_s": 0.1},
        {"total_s": -1},
        {"jitter": 1.5},
    ],
)
def test_values_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        Retry(**values)
