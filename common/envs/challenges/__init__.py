"""Challenges of applied reinforcement learning, as options of every environment.

Delays, noise, values that are lost or stuck, bodies that change from episode to episode, numbers
that mean nothing, and constraints: after the Real-World RL suite (Dulac-Arnold et al.,
arXiv:2003.11881), with its pipeline, ranges and limits.
"""

from common.envs.challenges.config import ChallengeConfig as ChallengeConfig
