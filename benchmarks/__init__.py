"""Benchmarks: speed, learning curves, and published scores."""
