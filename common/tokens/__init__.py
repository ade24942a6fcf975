"""Transformers over numbers as tokens: dynamics of state vectors, and policies cloned from data."""
