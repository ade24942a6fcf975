"""Running an agent: the loops, and all that they keep, count, save and load."""
