"""Runs a whole benchmark: a job per task and seed, on one machine, by Slurm or by Ray."""
