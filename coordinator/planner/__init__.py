"""Which sub-model a device gets: the best expected accuracy that fits its budget, and why."""

from coordinator.planner.accuracy import AccuracyTable, default_table, read_table
from coordinator.planner.budget import Budget
from coordinator.planner.solve import Decision, decide, plan_for

__all__ = [
    "AccuracyTable",
    "Budget",
    "Decision",
    "decide",
    "default_table",
    "plan_for",
    "read_table",
]
