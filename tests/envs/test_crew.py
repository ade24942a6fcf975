"""Crashes in groups of environments, against one environment at a time."""

import collections
import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.envs.base import Crash, env_seed, stack_rows
from common.envs.config import EnvConfig
from common.envs.registry import make_one
from common.envs.vector import VectorEnvs
from common.envs.workers import LocalWorker, Place
from common.errors import UserError
from tests.envs.toys import Counter

SEED, MOST, STEPS, APART = 5, 8, 14, 3
INDEX = {env_seed(SEED, index, times): index for index in range(MOST) for times in range(STEPS)}
GONE = "the worker is gone"


def actions(step):
    """Actions of all environments."""
    return np.random.default_rng(step).uniform(-1, 1, (MOST, 9)).astype(np.float32)


class Play:
    """Environments whose episodes have 2 to 4 steps, and which fail when they are told to.

    Rewards are of their own actions.

    Args:
        faults: ``(step, index)``: environments that raise, each once.
        deaths: ``(step, call, first)``: workers that are gone after a call in a step, each once,
            by the number of their first environment.
    """

    def __init__(self, faults=(), deaths=()):
        self.faults, self.deaths = set(faults), set(deaths)
        self.step, self.calls = -1, collections.Counter()
        self.started, self.alive, self.left = [], [], 0

    def build(self, seed):
        env = make_one(lambda: Counter(end=2 + seed % 3, truncate=True), EnvConfig(), seed)
        for name in ("reset", "step"):
            setattr(env, name, self._failing(getattr(env, name), INDEX[seed]))
        self.alive.append(env)
        env.close = lambda: self.alive.remove(env)
        return env

    def _failing(self, method, index):
        def run(*args):
            if (self.step, index) in self.faults:
                self.faults.remove((self.step, index))
                raise RuntimeError("the motor burnt out")
            row = method(*args)
            return row | {"reward": float(sum(map(np.sum, args)))}

        return run

    def start(self, build, indices):
        self.started.append(tuple(indices))
        return Fragile(build, indices[0], self)

    def rows(self, amount, per_worker):
        """Rows of every step."""
        envs = VectorEnvs(self.build, amount, SEED, Place(self.start, per_worker, self.leave))
        found = []
        for self.step in range(STEPS):
            self.calls.clear()
            found.append(envs.step(actions(self.step)[:amount]))
            assert len(self.alive) == amount and not self.left
        envs.close()
        assert not self.alive and self.left == 1
        envs.close()  # Once more does nothing.
        return found

    def leave(self):
        assert not self.alive
        self.left += 1


class Fragile(LocalWorker):
    """Counts what it is asked in a step, and is gone after some of it."""

    def __init__(self, build, first, play):
        super().__init__(build)
        self.first, self.play = first, play

    def receive(self):
        found = super().receive()
        self.play.calls[self.first] += 1
        now = self.play.step, self.play.calls[self.first], self.first
        if now in self.play.deaths:
            self.play.deaths.remove(now)
            raise Crash(GONE)
        return found


def alone(index, lost):
    """Rows of one environment that is lost in some steps."""
    build, times, row, rows = Play().build, 0, None, []
    env, over = build(env_seed(SEED, index)), True
    for step in range(STEPS):
        if step in lost:
            times += 1
            env, over = build(env_seed(SEED, index, times)), True
        if step in lost and row is not None and not row["is_last"]:
            row = {key: value for key, value in row.items() if not key.startswith("log/")}
            row |= {"reward": 0.0, "is_first": False, "is_last": True}
        else:
            row = env.reset() if over else env.step(actions(step)[index])
            over = row["is_last"]
        rows.append(row)
    return rows


def check_equal(found, expected):
    """Every array of every step is the same, bit by bit."""
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].dtype == other[key].dtype
            np.testing.assert_array_equal(one[key], other[key])


TIMES = st.sets(st.integers(0, (STEPS - 1) // APART).map(lambda time: APART * time))
"""Far enough apart that everyone makes a step in between."""


@settings(max_examples=30)
@given(st.integers(1, MOST), st.integers(1, MOST + 1), st.data())
def test_rows_are_those_of_single_environments_whatever_crashes(amount, per_worker, data):
    firsts = [index - index % per_worker for index in range(amount)]
    died = {first: data.draw(TIMES, label=f"worker of {first}") for first in sorted(set(firsts))}
    raised = [data.draw(TIMES, label=f"environment {index}") for index in range(amount)]
    play = Play(
        {(step, index) for index, steps in enumerate(raised) for step in steps},
        {(step, 1, first) for first, steps in died.items() for step in steps},
    )
    expected = [alone(index, died[firsts[index]] | raised[index]) for index in range(amount)]
    with contextlib.redirect_stderr(io.StringIO()):
        found = play.rows(amount, per_worker)
    check_equal(found, [stack_rows(rows) for rows in zip(*expected, strict=True)])
    assert not play.faults and not play.deaths
    groups = [tuple(range(amount)[first : first + per_worker]) for first in sorted(set(firsts))]
    assert play.started[: len(groups)] == groups


def phases(rows, index):
    """What the rows of an environment are: "f" first, "l" last, "." neither."""
    return "".join(
        "f" if row["is_first"][index] else "l" if row["is_last"][index] else "." for row in rows
    )


@pytest.mark.parametrize("call", [2, 3])
def test_a_worker_that_dies_while_one_is_mended_closes_the_others_episodes_later(call, capfd):
    """They have their row of this step already."""
    calm = Play().rows(3, 3)
    kinds = [phases(calm, index) for index in range(3)]
    step, single = next(
        (step, index)
        for step in range(1, STEPS)
        for index in range(1, 3)
        if kinds[index][step] == "f" and all(kinds[i][step] == "." for i in {0, 1, 2} - {index})
    )
    others = sorted({0, 1, 2} - {single})
    # The reset of one raises; when it is built anew, or then asked again, the worker dies.
    found = Play({(step, single)}, {(step, call, 0)}).rows(3, 3)
    check_equal(found[:step], calm[:step])
    for index in others:
        for key in calm[step]:
            np.testing.assert_array_equal(found[step][key][index], calm[step][key][index])
        assert phases(found, index)[step : step + 3] == ".lf"
        assert found[step + 1]["count"][index] == calm[step]["count"][index]
        assert found[step + 1]["reward"][index] == 0 and not found[step + 1]["is_terminal"][index]
    assert phases(found, single)[step : step + 2] == "f."
    assert found[step + 1]["reward"][single] == np.float32(actions(step + 1)[single].sum())
    printed = capfd.readouterr().err
    one = f"warning: environment {single} crashed (RuntimeError: the motor burnt out); it starts "
    assert one in printed and printed.count("warning") == 2
    assert f"warning: environments 0 to 2 crashed ({GONE}); they start anew and their " in printed


def test_an_environment_that_crashes_leaves_its_worker_and_all_of_them_do_not():
    play = Play({(2, 0), (5, 0), (5, 1), (8, 2)})
    with contextlib.redirect_stderr(io.StringIO()):
        play.rows(3, 2)
    assert play.started == [(0, 1), (2,), (0, 1), (2,)]


def test_a_worker_that_dies_in_every_step_ends_the_run():
    with (
        pytest.raises(UserError, match=f"environment 2 crashed 3 times without .*: {GONE}$"),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        Play(deaths={(step, 1, 2) for step in range(STEPS)}).rows(4, 2)
