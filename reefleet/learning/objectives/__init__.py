"""Objectives: pure training steps with their state, schedules and metrics, ready to trace."""

from reefleet.learning.objectives.objective import Objective, Settings, Step
from reefleet.learning.objectives.quped import quped
from reefleet.learning.objectives.reefl import reefl
from reefleet.learning.objectives.reefl_quped import reefl_quped

__all__ = ["Objective", "Settings", "Step", "quped", "reefl", "reefl_quped"]
