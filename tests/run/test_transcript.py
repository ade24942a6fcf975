"""A whole small run, call by call, against a transcript that was written down."""

from __future__ import annotations

from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from common.agent import Agent
from common.config import update
from common.envs.base import adapted_space, make_row, stack_rows
from common.logging import Sink
from common.run import base as base_run
from common.run import checkpoint
from common.run.program import Program
from common.run.train import train
from common.spaces import ObservationSpec, action_spec
from tests.fake_agent import Config

LENGTH, REPEAT = 3, 2
WORDS = {0.0: "nothing", 0.25: "explored", 0.5: "mode"}
"""What an action says of whoever chose it; the random policy chooses others."""


class ScriptedEnvs:
    """Environments in lockstep: ``LENGTH`` steps an episode, and step n pays n."""

    def __init__(self, calls, name, num_envs):
        self.calls, self.name, self.num_envs = calls, name, num_envs
        self.observation_specs = {"count": ObservationSpec((1,), "vector")}
        self.observation_space = adapted_space(self.observation_specs)
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.action_spec = action_spec(self.action_space)
        self.action_repeat, self.max_steps, self.count = REPEAT, LENGTH, LENGTH

    def step_async(self, action):
        word = " ".join(WORDS.get(float(value), "random") for value in action[:, 0])
        begins = self.count == LENGTH
        self.calls.append(f"{self.name}: " + ("reset" if begins else f"step by {word}"))
        self.count = 0 if begins else self.count + 1

    def step_wait(self):
        observation = {"count": np.array([self.count], np.float32)}
        first, last = self.count == 0, self.count == LENGTH
        row = make_row(observation, self.count, first=first, last=last, terminal=last)
        return stack_rows([row] * self.num_envs)

    def step(self, action):
        self.step_async(action)
        return self.step_wait()

    def render(self, index=0):
        return None

    def close(self):
        self.calls.append(f"{self.name}: closed")


class Recorder(Sink):
    """A logger that writes down what it is given."""

    def __init__(self, calls):
        self.calls = calls

    def scalars(self, frames, scalars):
        shown = ("episode/return", "eval/return_mean", "random/return_mean", "time/updates")
        values = [f"{name} {scalars[name]:g}" for name in shown if name in scalars]
        self.calls.append(f"frame {frames}: {', '.join(values)}")

    def close(self):
        self.calls.append("closed a logger that is somebody else's")


class Keys(NamedTuple):
    """Keys that the agent was given, as integers."""

    update: list[tuple[int, ...]]
    act: list[tuple[int, ...]]


def make_agent(calls, keys):
    """An agent that writes down how it is called; its state counts updates."""

    def numbers(key):
        return tuple(map(int, jax.random.key_data(key)))

    def init(key):
        calls.append("init")
        return jnp.zeros((), jnp.int32)

    def act(params, key, carry, rows, mode):
        count = " ".join(f"{value:g}" for value in np.asarray(rows["count"])[:, 0])
        calls.append(f"act to {mode} on count {count} after {int(params['w'])} updates")
        keys.act.append(numbers(key))
        return jnp.full((len(carry), 1), 0.25 if mode == "train" else 0.5), carry

    def learn(state, key, batch):
        calls.append(f"update {int(state) + 1} on {batch['reward'].shape}")
        keys.update.append(numbers(key))
        return state + 1, {}

    return Agent(init, lambda state: {"w": state}, jnp.zeros, act, learn, lambda *args: {})


OPTIONS = {
    "task": "script",
    "env.amount": 2,
    "replay.length": 2,
    "replay.batch": 3,
    "run.frames": 36,  # Both environments step for 4 frames together.
    "run.prefill": 4,  # Ends inside an episode, which stays random to its end.
    "run.pretrain": 2,
    "run.train_every": 4,  # Agent steps, of which there are 2 at a time.
    "run.eval_every": 16,
    "run.eval_episodes": 1,
    "run.log_every": 12,
    "run.random_episodes": 1,
}
EXPECTED = """
init
learning: reset
playing 10000: reset
playing 10000: step by random
playing 10000: step by random
playing 10000: step by random
playing 10000: closed
frame 0: random/return_mean 6
told of random at 0 of 36
learning: step by random random
learning: step by random random
learning: step by random random
update 1 on (3, 2)
update 2 on (3, 2)
frame 12: episode/return 6, time/updates 2
told of metrics at 12 of 36
learning: reset
act to train on count 0 0 after 2 updates
learning: step by explored explored
playing 20000: reset
act to eval on count 0 after 2 updates
playing 20000: step by mode
act to eval on count 1 after 2 updates
playing 20000: step by mode
act to eval on count 2 after 2 updates
playing 20000: step by mode
playing 20000: closed
frame 16: eval/return_mean 6
told of evaluation at 16 of 36
act to train on count 1 1 after 2 updates
learning: step by explored explored
update 3 on (3, 2)
act to train on count 2 2 after 3 updates
learning: step by explored explored
frame 24: episode/return 6, time/updates 3
told of metrics at 24 of 36
act to train on count 3 3 after 3 updates
learning: reset
update 4 on (3, 2)
act to train on count 0 0 after 4 updates
learning: step by explored explored
act to train on count 1 1 after 4 updates
learning: step by explored explored
playing 21000: reset
act to eval on count 0 after 4 updates
playing 21000: step by mode
act to eval on count 1 after 4 updates
playing 21000: step by mode
act to eval on count 2 after 4 updates
playing 21000: step by mode
playing 21000: closed
frame 32: eval/return_mean 6
told of evaluation at 32 of 36
act to train on count 2 2 after 4 updates
learning: step by explored explored
update 5 on (3, 2)
frame 36: episode/return 6, time/updates 5
told of metrics at 36 of 36
playing 22000: reset
act to eval on count 0 after 5 updates
playing 22000: step by mode
act to eval on count 1 after 5 updates
playing 22000: step by mode
act to eval on count 2 after 5 updates
playing 22000: step by mode
playing 22000: closed
frame 36: eval/return_mean 6
told of evaluation at 36 of 36
checkpoint 36 of 5 updates
learning: closed
"""


def test_a_whole_run_call_by_call(tmp_path, monkeypatch):
    calls, keys = [], Keys([], [])

    def make_envs(seed, amount):
        name = "learning" if amount == 2 else f"playing {seed}"
        return ScriptedEnvs(calls, name, amount)

    write = checkpoint.save

    def save(directory, step, tree, metadata, keep):
        calls.append(f"checkpoint {step} of {int(tree['agent'])} updates")
        return write(directory, step, tree, metadata, keep)

    monkeypatch.setattr(base_run.checkpoint, "save", save)
    program = Program("script", Config(), lambda *args: make_agent(calls, keys))
    watch = lambda now: calls.append(f"told of {now.kind} at {now.now} of {now.total}")  # noqa: E731
    with jax.disable_jit():
        result = train(
            program, update(Config(), OPTIONS), tmp_path / "run",
            envs=make_envs, loggers=[Recorder(calls)], progress=watch,
        )  # fmt: skip
    assert (result.finished, result.frames, result.updates) == (True, 36, 5)
    assert calls == EXPECTED.strip().splitlines()
    assert len(set(keys.update)) == len(keys.update) == 5
    assert len(set(keys.act)) == len(keys.act)
    assert not set(keys.update) & set(keys.act)
