"""The mathematics of an update: optimizers, schedules, returns, normalisation."""
