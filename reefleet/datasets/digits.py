"""Handwritten digits: 1,797 images of 8 x 8, the UCI optical recognition set of scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import RuntimeUnavailable

DEPTH_OF_GREY = 16  # the set counts pixels that are on in a 4 x 4 cell


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Give images [N, 1, 8, 8] in 0..255 and labels [N]; raises RuntimeUnavailable."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        msg = "the digits need scikit-learn; run: pip install 'reefleet[all]'"
        raise RuntimeUnavailable(msg) from error
    found = load_digits()
    images = np.rint(found.images * (255 / DEPTH_OF_GREY)).astype(np.uint8)
    return images[:, None], found.target.astype(np.int64)
