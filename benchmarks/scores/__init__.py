"""Scores of agents over the tasks of a benchmark, and what is computed from them."""
