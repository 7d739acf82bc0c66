"""How careful the choice of exit thresholds is where nobody says otherwise; see `thresholds`."""

from __future__ import annotations

DEFAULT_TOLERANCE = 0.005
DEFAULT_MINIMUM = 8
DEFAULT_MARGIN = 1.0
