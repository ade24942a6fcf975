"""The page of a benchmark: scores of agents as tables and charts, in one file."""
