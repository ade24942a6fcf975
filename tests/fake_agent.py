"""A tiny agent for tests of what surrounds agents; ``python -m tests.fake_agent train`` runs it."""

from __future__ import annotations

import dataclasses
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common.agent import Agent, Latents, OpenLoop
from common.command import line as cli
from common.envs.config import EnvConfig
from common.replay.config import ReplayConfig
from common.rows import LATENT_PREFIX, without_latents
from common.run.config import RunConfig, Settings
from common.run.program import Program

EVAL_ACTION = 0.5
KEPT, INFERRED = LATENT_PREFIX + "rows", 1000


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """A run of the fake agent."""

    task: str = "tests.envs.known:Echo"
    env: EnvConfig = EnvConfig(workers="none")
    replay: ReplayConfig = ReplayConfig(capacity=10_000, memory=0.1, batch=2, length=4, prefetch=0)
    run: RunConfig = RunConfig(
        frames=100,
        prefill=20,
        pretrain=3,
        train_every=2,
        eval_every=50,
        eval_episodes=2,
        log_every=20,
        report_every=50,
        random_episodes=2,
        video=False,
    )


class State(NamedTuple):
    """A weight that wanders with rewards and random numbers, and the number of updates."""

    params: dict
    updates: jax.Array


def make_agent(config: Config, observations: dict, actions) -> Agent:
    """Acts at random in training and with a constant in evaluation.

    Its latent state is the number of rows of the episode; an update infers ``INFERRED`` more.
    """

    def check(rows: dict) -> None:
        assert not [key for key in rows if key.startswith("log/")]
        assert observations.keys() < rows.keys()

    def init(key):
        weight = jax.random.normal(key, (3,))
        return State({"model": {"w": weight}}, jnp.zeros((), jnp.int32))

    def act(params, key, carry, rows, mode):
        check(rows)
        carry = jnp.where(rows["is_first"], 0, carry + 1)
        shape = (len(carry), actions.size)
        if mode == "eval":
            return jnp.full(shape, EVAL_ACTION), carry
        return jax.random.uniform(key, shape, minval=-1.0), carry

    def update(state, key, batch):
        check(batch)
        step = batch["reward"].mean() + batch["action"].mean() + jax.random.normal(key, (3,))
        weight = state.params["model"]["w"] + step
        metrics = {"model/loss": weight.mean(), "model/first": batch["is_first"].mean()}
        return State({"model": {"w": weight}}, state.updates + 1), metrics

    def update_latents(state, key, batch):
        rows = without_latents(batch)
        return *update(state, key, rows), {KEPT: (rows["count"] + INFERRED + 1).astype(jnp.uint16)}

    def report(params, key, batch):
        check(batch)
        images = {k: v for k, v in batch.items() if v.dtype == jnp.uint8}
        return {key: OpenLoop(value, value) for key, value in images.items()}

    carry = lambda num_envs: jnp.zeros(num_envs, jnp.int32)  # noqa: E731
    latents = None
    if config.replay.latents:
        pack = lambda carry: {KEPT: (carry + 1)[:, None].astype(jnp.uint16)}  # noqa: E731
        latents = Latents({KEPT: ((1,), np.uint16)}, pack, update_latents)
    return Agent(init, lambda state: state.params, carry, act, update, report, latents=latents)


def load_program() -> Program:
    """Returns the fake agent for the command line and the run loop."""
    return Program("fake", Config(), make_agent)


if __name__ == "__main__":
    sys.exit(cli.main("fake", load_program))
