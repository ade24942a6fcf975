"""Actor-Learner Distillation (arXiv:2104.01655): a small actor acts, and learns what the large one
would do.

The large learner never acts; see ``dreamer.distillation.distiller``.
"""
