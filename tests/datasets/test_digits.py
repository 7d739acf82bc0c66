import numpy as np
import pytest

from reefleet.datasets.digits import digits


def test_digits_are_whole_grey_images_of_ten_classes() -> None:
    pytest.importorskip("sklearn")
    images, labels = digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert labels.shape == (1797,)
    assert set(labels) == set(range(10))
