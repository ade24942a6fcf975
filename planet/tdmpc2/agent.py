"""TD-MPC2 (arXiv:2310.16828): a latent model without a decoder, values, a policy, and a planner.

What an update does is in ``planet.tdmpc2.learn``; actions are planned as in all of ``planet``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.agent import Agent, Reactive
from common.errors import UserError
from common.learning.schedules import parse_schedule
from common.spaces import ActionSpec, ObservationSpec
from common.types import Array, Params, Rows
from planet.config import Config
from planet.controller import Carry, Controller
from planet.planner import make_searcher
from planet.tdmpc2.config import episode_discount
from planet.tdmpc2.learn import Learner, TrainState
from planet.tdmpc2.model import make_model
from planet.tdmpc2.networks import make_networks
from planet.tdmpc2.planned import planned_model
from planet.tdmpc2.tasks import find_tasks

PLANNER = "planner"
"""What the planner needs beside the networks, in the parameters to act with."""


def make_tdmpc2(
    config: Config, observations: Mapping[str, ObservationSpec], actions: ActionSpec
) -> Agent:
    """Builds the agent.

    Raises:
        UserError: An option with an impossible value, or spaces that it does not serve.
    """
    options, tasks = config.tdmpc2, find_tasks(observations)
    discount = _discount(config, observations)
    _check(config)
    precision = config.world_model.precision
    networks = make_networks(options, observations, actions, tasks, precision)
    learner = Learner(networks, options, discount, actions.size)
    model = make_model(networks, options, actions.size)
    size = options.latent + (len(tasks.actions) if tasks else 0)
    planned = planned_model(model, size, discount, config.planner.caution > 0)
    guide, least_std = planned.guide, parse_schedule(options.min_std)
    if options.min_std != "0":
        guide = guide._replace(min_std=lambda params: params[PLANNER]["min_std"])
    searcher = make_searcher(planned.rollout, config.planner, actions, guide)
    explore = config.exploration_noise, config.planner.explore
    controller = Controller(planned, searcher, actions, *explore)

    def params(state: TrainState) -> dict[str, Params]:
        if guide.min_std is None:
            return state.params
        return state.params | {PLANNER: {"min_std": least_std(learner.updates(state))}}

    def value(params: Params, state: Any) -> Array:
        z = state.memory if isinstance(state, Carry) else state
        return model.values(params, z, model.best(params, z)).mean(0)

    def follow(
        params: Params, noise: Mapping[str, Array], carry: tuple, observation: Rows
    ) -> tuple:
        return model.best(params, model.encode(params, observation)), carry

    return Agent(
        init=learner.init,
        params=params,
        initial_carry=controller.initial_carry,
        act=controller.act,
        update=learner.update,
        report=lambda params, key, batch: {},  # No picture is ever predicted.
        value=value,
        policy=model.policy,
        reactive=Reactive({}, lambda num_envs: (), follow),
    )


def _check(config: Config) -> None:
    replay, rows = config.replay, config.tdmpc2.horizon + 1
    if replay.latents or replay.burn_in:
        raise UserError(
            "TD-MPC2 infers a state from a single row; set replay.latents false and "
            "replay.burn_in 0"
        )
    if replay.length != rows:
        raise UserError(
            f"TD-MPC2 learns from windows of tdmpc2.horizon + 1 = {rows} rows, and replay.length "
            f"is {replay.length}"
        )


def _discount(
    config: Config, observations: Mapping[str, ObservationSpec]
) -> float | tuple[float, ...]:
    """Returns that of the next value, for each of several tasks that are told apart."""
    given = config.tdmpc2.discount
    lengths = [task.steps for spec in observations.values() for task in spec.tasks]
    if not given and not (lengths and all(lengths)):
        raise UserError(
            "tdmpc2.discount is 0, for that of the length of episodes, which nobody says; give it, "
            "or env.time_limit"
        )
    if not lengths:
        return given
    return tuple(given or episode_discount(length) for length in lengths)
