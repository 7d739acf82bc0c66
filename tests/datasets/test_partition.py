import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reefleet.datasets.partition import (
    classes_split,
    dirichlet_split,
    iid_split,
    natural_split,
    noisy,
    quantity_split,
)
from reefleet.errors import DataTooSmall


@given(
    st.lists(st.integers(0, 4), min_size=40, max_size=120),
    st.integers(1, 5),
    st.floats(0.2, 50),
    st.integers(0, 2**32 - 1),
)
def test_every_sample_goes_to_exactly_one_device(
    labels: list[int], devices: int, alpha: float, seed: int
) -> None:
    shares = dirichlet_split(np.array(labels), devices, alpha, np.random.default_rng(seed), 0)
    assert len(shares) == devices
    assert sorted(np.concatenate(shares)) == list(range(len(labels)))


def test_each_device_holds_at_least_what_was_asked() -> None:
    labels = np.arange(1000) % 10
    shares = dirichlet_split(labels, 5, 0.5, np.random.default_rng(0), 120)
    assert min(len(share) for share in shares) >= 120


def test_the_same_seed_gives_the_same_split() -> None:
    labels = np.arange(200) % 10
    first, second = (dirichlet_split(labels, 4, 0.5, np.random.default_rng(7)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_smaller_alpha_is_more_skewed() -> None:
    labels = np.arange(2000) % 10

    def largest_class_share(alpha: float) -> float:
        shares = dirichlet_split(labels, 5, alpha, np.random.default_rng(1))
        return float(np.mean([np.bincount(labels[s], minlength=10).max() / len(s) for s in shares]))

    assert largest_class_share(0.1) > largest_class_share(100)


@pytest.mark.parametrize(
    ("samples", "devices", "alpha"), [(10, 5, 1.0), (100, 0, 1.0), (100, 5, 0.0)]
)
def test_a_split_that_cannot_be_is_refused(samples: int, devices: int, alpha: float) -> None:
    with pytest.raises(DataTooSmall):
        dirichlet_split(np.zeros(samples, int), devices, alpha, np.random.default_rng(0), 3)


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_each_device_holds_as_many_classes_as_asked(devices: int, classes: int, seed: int) -> None:
    labels = np.arange(300) % 5
    shares = classes_split(labels, devices, classes, np.random.default_rng(seed))
    assert [len(set(labels[share])) for share in shares] == [classes] * devices
    held = np.concatenate(shares)
    assert len(held) == len(set(held))


def test_a_natural_split_keeps_each_writer_whole() -> None:
    writers = np.repeat([7, 3, 9], [5, 20, 30])
    shares = natural_split(writers, 2, np.random.default_rng(0), least=10)
    assert [sorted(set(writers[share])) for share in shares] == [[3], [9]]
    assert [len(share) for share in shares] == [20, 30]
    with pytest.raises(DataTooSmall, match="2 clients"):
        natural_split(writers, 3, np.random.default_rng(0), least=10)


def test_a_quantity_split_differs_in_amount_above_the_floor() -> None:
    shares = quantity_split(1000, 8, 0.5, np.random.default_rng(0), least=20)
    sizes = [len(share) for share in shares]
    assert min(sizes) >= 20
    assert max(sizes) > 3 * min(sizes)
    held = np.concatenate(shares)
    assert len(held) == len(set(held)) <= 1000


def test_an_even_split_gives_everything_away() -> None:
    shares = iid_split(10, 3, np.random.default_rng(0))
    assert sorted(np.concatenate(shares)) == list(range(10))
    assert [len(share) for share in shares] == [4, 3, 3]


def test_noise_stays_within_the_pixels_range() -> None:
    images = np.full((50, 1, 8, 8), 250, np.uint8)
    moved = noisy(images, 0.1, np.random.default_rng(0))
    assert moved.dtype == np.uint8
    assert moved.max() == 255
    assert noisy(images, 0.0, np.random.default_rng(0)) is images
