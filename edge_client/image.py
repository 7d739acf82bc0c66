"""One image file as the model's input; Pillow is loaded only when an image is read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reefleet.datasets.pack import normalize
from reefleet.errors import DamagedFile, MissingFile, RuntimeUnavailable
from reefleet.model import Preprocessing

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 64_000_000  # 64 MB as grey; a small file can claim far more
_DEEP_MODES = ("I", "F")  # 16 bits and more a value; conversion to 8 bits would clip, not scale
_DEEP_SCALE = 255 / 65535


def read(path: Path, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Decode, resize and normalise an image file: float32 [1, C, H, W].

    Raises MissingFile, or DamagedFile where the file is no image, is cut short or is too large.
    """
    pixels = _decode(path, preprocessing)
    values = np.empty((1, *pixels.shape), np.float32)
    normalize(pixels[None], preprocessing, values)
    return values


def _decode(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError as error:
        msg = "reading images needs Pillow; run: pip install 'reefleet[edge]'"
        raise RuntimeUnavailable(msg) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _pixels(image, path, preprocessing)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        msg = f"the image {path} cannot be read: {error.strerror}"
        raise MissingFile(msg) from error
    except UnidentifiedImageError as error:
        msg = f"{path} is not an image in a format that can be read"
        raise DamagedFile(msg) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        msg = f"the image {path} is damaged: {error}"
        raise DamagedFile(msg) from error


def _pixels(
    image: Image.Image, path: Path, preprocessing: Preprocessing
) -> NDArray[np.uint8]:  # C H W
    from PIL import Image

    if image.width * image.height > MAX_PIXELS:
        raise _too_large(path)
    _, high, wide = preprocessing.shape
    if image.mode.startswith(_DEEP_MODES):
        scaled = np.asarray(image, np.float32) * np.float32(_DEEP_SCALE)
        image = Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))
    image = image.convert("L" if preprocessing.channels == 1 else "RGB")
    if image.size != (wide, high):
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _too_large(path: Path) -> DamagedFile:
    msg = f"the image {path} claims more than {MAX_PIXELS} pixels and was not decoded"
    return DamagedFile(msg)
