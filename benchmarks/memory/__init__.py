"""Latent dynamics in worlds of memory: what they cost by length of window, what they recall."""
