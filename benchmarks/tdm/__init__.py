"""Dynamics models that generalise over bodies: data and experiments."""
