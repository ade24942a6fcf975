"""A run tells an agent that asks for it when exploring is over, and keeps what it notes."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from common.agent import Latents
from common.config import update
from common.replay.chunks import list_chunks, read_chunk
from common.rows import EXPLORES, NOTE_PREFIX
from common.run.members import Member, train_fleet
from common.run.train import train
from tests import fake_agent

NOTE = NOTE_PREFIX + "known"
UNTIL = 60


def make_agent(config, observations, actions):
    """Acts with 0.25 while it explores and with -0.25 after it; notes the actions of the carry."""
    agent = fake_agent.make_agent(config, observations, actions)

    def act(params, key, carry, rows, mode):
        _, rest = agent.act(params, key, carry[0], rows, mode)
        assert (EXPLORES in rows) == (mode == "train")
        explores = rows.get(EXPLORES, jnp.ones(len(carry[0]), bool))
        action = jnp.where(explores[:, None], 0.25, -0.25) * jnp.ones((1, actions.size))
        return action, (rest, action[:, :1])

    def learn(state, key, batch):
        assert batch[NOTE].shape == (*batch["reward"].shape, 1)
        noted = jnp.abs(batch[NOTE]) == 0.25
        state, metrics = agent.update(state, key, {k: x for k, x in batch.items() if k != NOTE})
        return state, metrics | {"model/noted": noted.mean()}, {}

    return agent._replace(
        initial_carry=lambda amount: (agent.initial_carry(amount), jnp.zeros((amount, 1))),
        act=act,
        update=lambda *args: learn(*args)[:2],
        latents=Latents({NOTE: ((1,), np.float32)}, lambda carry: {NOTE: carry[1]}, learn),
        explores_until=UNTIL,
    )


@pytest.mark.parametrize("fleet", [False, True])
def test_the_task_takes_over_after_so_many_frames(tmp_path, fleet):
    program = fake_agent.load_program()._replace(make_agent=make_agent)
    config = update(program.default_config, {"run.eval_episodes": 1})
    if fleet:
        seeds = [dataclasses.replace(config, seed=seed) for seed in (1, 2)]
        members = [Member(f"seed {x.seed}", x, tmp_path / str(x.seed)) for x in seeds]
        assert all(end.finished for end in train_fleet(program, members))
        folders = [member.logdir for member in members]
    else:
        train(program, config, tmp_path)
        folders = [tmp_path]
    for folder in folders:
        chunks = [read_chunk(file.path) for file in list_chunks(folder / "replay")]
        rows = {key: np.concatenate([x[key] for x in chunks]) for key in chunks[0]}
        steps = ~rows["is_first"]
        frame, action = np.cumsum(steps)[steps], rows["action"][steps][:, 0]
        begun = np.flatnonzero(action == np.float32(0.25))[0]  # The random policy is over.
        assert 0 < frame[begun] < UNTIL - 5
        np.testing.assert_array_equal(action[begun:], np.where(frame[begun:] <= UNTIL, 0.25, -0.25))
        noted = rows[NOTE][:, 0]
        assert set(np.unique(noted)) == {-0.25, 0, 0.25}
