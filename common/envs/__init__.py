"""Environments by name: ``make("dmc_walker_walk", EnvConfig(), seed=0)``."""

from __future__ import annotations

from common.envs.base import Env, Envs
from common.envs.check import check_env
from common.envs.config import EnvConfig
from common.envs.registry import make, make_one

__all__ = ["Env", "EnvConfig", "Envs", "check_env", "make", "make_one"]
