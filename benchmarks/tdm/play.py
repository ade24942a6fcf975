"""Plays episodes by planning in a learned model, or with a cloned policy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.tdm.clone import Cloned
from benchmarks.tdm.contenders import Fitted
from common.envs.base import Envs
from common.envs.config import EnvConfig
from common.planner import PlannerConfig
from common.run.driver import ActFunction, AgentPolicy
from common.run.evaluation import play
from common.spaces import ActionSpec
from common.types import Array, Key
from planet.controller import Controller
from planet.model import PlannedModel
from planet.planner import Searcher, make_searcher
from planet.search import Plan


@functools.lru_cache(maxsize=32)
def planning(model: PlannedModel, planner: PlannerConfig, actions: ActionSpec) -> ActFunction:
    """Returns planning in a model as one compiled function."""
    return ActFunction(Controller(model, make_searcher(model.rollout, planner, actions), actions))


@functools.lru_cache(maxsize=32)
def cloning(model: Cloned, actions: ActionSpec) -> ActFunction:
    """Returns a cloned policy as one compiled function; the body may have fewer actions."""

    def search(fitted: Fitted, key: Key, start: Any, belief: None, is_first: Array) -> Plan:
        action = model.act(fitted, key, start)[:, : actions.size]
        return Plan(action, belief, jnp.zeros(len(action)))

    return ActFunction(Controller(model, Searcher(lambda num_envs: None, search), actions))


def returns(
    task: str,
    env: EnvConfig,
    episodes: int,
    seed: int,
    make_act: Callable[[ActionSpec], ActFunction],
    fitted: Fitted,
) -> np.ndarray:
    """Plays episodes side by side, so that all are planned for in one call.

    Args:
        task: Task of the environments.
        env: How they are built.
        episodes: Episodes, E.
        seed: Of environments and draws.
        make_act: Returns the compiled function for the actions of the body.
        fitted: Its parameters.

    Returns:
        The return of each episode ``[E]``.
    """

    def policy(envs: Envs) -> AgentPolicy:
        return AgentPolicy(make_act(envs.action_spec), fitted, envs.num_envs, seed, "eval")

    return play(task, env, episodes, seed, policy).tasks[task].returns
