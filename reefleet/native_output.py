"""What native libraries print past Python's own streams."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2  # the descriptor, which native code writes to
_NOTICE = b"INFO: "


@contextmanager
def without_notices() -> Iterator[None]:
    """Keep LiteRT's "INFO: ..." lines off stderr; its Python package has no switch for them."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as caught:
        kept = os.dup(_STDERR)
        os.dup2(caught.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            caught.seek(0)
            for line in caught:
                if not line.startswith(_NOTICE):
                    os.write(_STDERR, line)
