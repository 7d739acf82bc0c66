"""Many clients on one machine, with the objectives and the aggregation of the real fleet."""
