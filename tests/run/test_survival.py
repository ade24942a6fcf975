"""Runs that go on after whatever befell them, and learn what they would have learned."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest

from common.config import update
from common.envs import make
from common.errors import UserError
from common.export import read_export
from common.files import WriteError
from common.logging import jsonl
from common.replay import Replay, ReplayConfig
from common.replay.episodes import write_episodes
from common.run import base as base_run
from common.run import checkpoint
from common.run import folder as run_folder
from common.run import train as training
from common.run.learner import PATIENCE, LeftOut
from common.run.online import Handover
from common.run.program import Program
from tests import fake_agent
from tests.run.test_offline import episode
from tests.run.test_train import counters, listing, metrics, replayed, run, stop_evaluation

QUIET = {"run__eval_episodes": 0, "run__random_episodes": 0}
DEFAULT = {"replay__prefetch": ReplayConfig().prefetch}


def checkpoints(logdir):
    """Folders of the checkpoints, the oldest first."""
    return sorted((logdir / run_folder.CHECKPOINTS).iterdir())


def weight(logdir):
    """What a run learned."""
    return read_export(logdir).params["model"]["w"]


def consistent(logdir, frames):
    """Counters, rows, scores and agent of a finished run agree."""
    found = counters(logdir)
    assert found["frames"] == found["finished_frames"] == frames
    assert (~replayed(logdir)["is_first"]).sum() == frames
    ends = [at for at, _ in metrics(logdir, "time/updates")]
    assert ends == sorted(set(ends)) and ends[-1] == frames


class TestCheckpoints:
    """A run goes on from the newest one that is whole."""

    def test_a_damaged_one_costs_what_came_after_the_one_before(self, tmp_path):
        for frames in (60, 100):
            run(tmp_path, run__frames=frames, **QUIET)
        older, newest = checkpoints(tmp_path)
        (newest / "checkpoint.json").write_text("{")
        with pytest.warns(UserWarning, match=f"{newest} is damaged .*; that of step 60 is used"):
            run(tmp_path, run__frames=80, **QUIET)
        assert [path.name for path in checkpoints(tmp_path)] == [older.name, f"{80:012d}"]
        consistent(tmp_path, 80)

    def test_where_all_are_damaged_nothing_changes(self, tmp_path):
        for frames in (60, 100):
            run(tmp_path, run__frames=frames, **QUIET)
        for folder in checkpoints(tmp_path):
            (folder / "checkpoint.json").unlink()
        before = listing(tmp_path)
        with pytest.raises(UserError, match="0100 is damaged .*; delete that folder to start"):
            run(tmp_path, run__frames=200, **QUIET)
        assert listing(tmp_path) == before

    @pytest.mark.parametrize("hidden", [".saving-{}", ".saving-{}-old"])
    def test_a_kill_that_left_it_without_its_name_costs_nothing(self, hidden, tmp_path):
        """The run does not begin anew, which would empty replay and logs."""
        run(tmp_path, **QUIET)
        (folder,) = checkpoints(tmp_path)
        folder.rename(folder.with_name(hidden.format(folder.name)))
        run(tmp_path, run__frames=140, **QUIET)
        consistent(tmp_path, 140)

    def test_damaged_logs_stop_nobody(self, tmp_path):
        run(tmp_path, **QUIET)
        for name in (run_folder.METRICS, run_folder.SCORES):
            content = bytearray((tmp_path / name).read_bytes())
            content[2] = 0xFF
            (tmp_path / name).write_bytes(content + b'{"frames": null}\n')
        with pytest.warns(UserWarning, match="2 damaged lines of"):
            run(tmp_path, run__frames=140, **QUIET)
        consistent(tmp_path, 140)


def test_a_run_that_somebody_else_began_meanwhile_is_left_alone(tmp_path):
    """Two commands for a new folder; the first takes a while to open its environments."""
    program, logdir = fake_agent.load_program(), tmp_path / "run"
    config = update(program.default_config, {"run.eval_episodes": 0, "run.random_episodes": 0})
    opened, failures = threading.Event(), []

    def slowly(seed, amount):
        opened.wait(60)
        return make(config.task, config.env, seed, amount)

    def first():
        try:
            training.train(program, config, logdir, envs=slowly)
        except UserError as error:
            failures.append(str(error))

    thread = threading.Thread(target=first)
    thread.start()
    training.train(program, config, logdir)
    before = listing(logdir)
    opened.set()
    thread.join()
    assert len(failures) == 1 and "another process has begun a run" in failures[0]
    assert "repeat the command to go on with it" in failures[0]
    assert listing(logdir) == before


@pytest.mark.parametrize("at, evaluated", [(1, [50, 100]), (2, [50, 100])])
def test_an_evaluation_that_was_cut_is_repeated(at, evaluated, tmp_path, monkeypatch):
    stop_evaluation(monkeypatch, at)
    run(tmp_path, run__random_episodes=0)
    assert counters(tmp_path)["evaluation_due"]
    run(tmp_path, run__random_episodes=0)
    assert [at for at, _ in metrics(tmp_path, "eval/return_mean")] == evaluated
    assert not counters(tmp_path)["evaluation_due"]


class TestFullDisk:
    """The run's own words, and a checkpoint where there is room for one."""

    def failing(self, monkeypatch, name, after):
        """Lets one file take so many lines and no more."""
        write, lines = jsonl.JsonlFile.write, []

        def refuse(self, now, scalars):
            if self._path.name == name:
                lines.append(now)
                if len(lines) > after:
                    raise WriteError("cannot write it: No space left on device")
            return write(self, now, scalars)

        monkeypatch.setattr(jsonl.JsonlFile, "write", refuse)

    @pytest.mark.parametrize("name", [run_folder.METRICS, run_folder.SCORES])
    def test_a_log_that_fails_ends_the_run_after_a_checkpoint(self, name, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            self.failing(patch, name, after=2)
            with pytest.raises(UserError, match="No space left on device"):
                run(tmp_path, **QUIET)
        assert 0 < counters(tmp_path)["frames"] < 100
        run(tmp_path, **QUIET)
        consistent(tmp_path, 100)

    def test_where_there_is_no_room_for_a_checkpoint_the_last_one_stays(
        self, tmp_path, monkeypatch
    ):
        run(tmp_path, run__frames=60, **QUIET)
        before = listing(tmp_path / run_folder.CHECKPOINTS)
        with monkeypatch.context() as patch:
            self.failing(patch, run_folder.METRICS, after=1)

            def refuse(*_):
                raise WriteError("no room for a checkpoint")

            patch.setattr(Replay, "flush", refuse)
            with pytest.raises(UserError, match="No space left on device"):  # The first failure.
                run(tmp_path, run__frames=200, **QUIET)
        assert listing(tmp_path / run_folder.CHECKPOINTS) == before
        run(tmp_path, **QUIET)
        consistent(tmp_path, 100)


class TestUpdatesThatWereLeftOut:
    """They are said, and a run that learns nothing ends."""

    def program(self, bad):
        """The tiny agent, whose gradients are not finite in some updates."""

        def make_agent(config, observations, actions):
            agent = fake_agent.make_agent(config, observations, actions)

            def learn(state, key, batch):
                number = state.updates + 1
                state, found = agent.update(state, key, batch)
                norm = jnp.where(bad(number), jnp.nan, 1.0)
                return state, found | {"model/grad_norm": norm}

            return agent._replace(update=learn)

        return Program("fake", fake_agent.Config(), make_agent)

    def train(self, logdir, bad, **options):
        """Runs the agent."""
        program = self.program(bad)
        names = {key.replace("__", "."): value for key, value in (QUIET | options).items()}
        return training.train(program, update(program.default_config, names), logdir)

    def test_some_are_a_warning_at_every_line_of_the_log(self, tmp_path, capsys):
        self.train(tmp_path, lambda number: number == 5)
        warning = capsys.readouterr().err
        assert warning.startswith("warning: 1 of the last ") and warning.count("\n") == 1
        assert "updates of model were left out: gradients were not finite" in warning

    @pytest.mark.parametrize("options", [{}, {"run__frames": 22}, {"run__train_every": 0.2}])
    def test_all_are_an_error_and_nothing_is_left(self, options, tmp_path):
        """Few of them, at the end of the run; and many, before."""
        with pytest.raises(UserError, match="updates of model were all left out: .*; lower the"):
            self.train(tmp_path / "run", lambda number: number > 0, **options)
        assert not list(tmp_path.iterdir())

    def test_in_a_row_over_many_lines_of_the_log(self):
        watch = LeftOut()
        for _ in range(PATIENCE - 1):
            watch.add({"a/grad_norm": np.nan, "b/grad_norm": 1.0, "a/loss": np.nan})
            (line,) = watch.take()
            assert line.startswith("1 of the last 1 updates of a were left out")
        watch.add({"a/grad_norm": 1.0, "b/grad_norm": np.inf})
        watch.take(over=True)  # Some of each changed something.
        for _ in range(PATIENCE):
            watch.add({"a/grad_norm": np.nan, "b/grad_norm": 1.0})
        with pytest.raises(UserError, match=f"the last {PATIENCE} updates of a were all left out"):
            watch.take()


class Recorded:
    """A policy that chooses one number and notes what it saw."""

    def __init__(self, value):
        self.value, self.seen = value, []

    def __call__(self, rows):
        self.seen.append(rows["is_first"].copy())
        return np.full((len(rows["is_first"]), 1), self.value)


def test_a_policy_begins_with_an_episode():
    policy = Recorded(1.0)
    handover = Handover(Recorded(0.0), policy, num_envs=2, prefill=100)
    firsts = [(0, 0), (0, 1), (0, 0), (1, 0), (0, 0)]
    chosen = [handover({"is_first": np.array(first, bool)})[:, 0].tolist() for first in firsts]
    assert chosen == [[0, 0], [0, 1], [0, 1], [1, 1], [1, 1]]
    # Not before somebody begins; then rows of those that have not are each the first of an episode.
    seen = [first.tolist() for first in policy.seen]
    assert seen == [[1, 1], [1, 0], [1, 0], [0, 0]]


def test_where_episodes_do_not_end_a_policy_begins_after_as_long_again():
    policy = Recorded(1.0)
    handover = Handover(Recorded(0.0), policy, num_envs=2, prefill=6)
    rows = {"is_first": np.zeros(2, bool)}
    assert [handover(rows)[0, 0] for _ in range(5)] == [0, 0, 0, 1, 1]
    assert [first.tolist() for first in policy.seen] == [[1, 1], [0, 0]]


class TestTheSameAgain:
    """What is promised to be equal bit for bit, with options as they are by default."""

    @pytest.fixture(autouse=True)
    def slow_and_fast_threads(self, monkeypatch):
        """Batches that take their time, now more, now less."""
        gather, rng = Replay.gather, random.Random(time.time_ns())

        def uneven(self, windows):
            time.sleep(rng.choice([0, 0, 0.002]))
            return gather(self, windows)

        monkeypatch.setattr(Replay, "gather", uneven)

    def test_the_same_seed_learns_the_same(self, tmp_path):
        options = {"env__amount": 2, "run__train_every": 1, **DEFAULT, **QUIET}
        for name in ("one", "other"):
            run(tmp_path / name, **options)
        np.testing.assert_array_equal(weight(tmp_path / "one"), weight(tmp_path / "other"))
        run(tmp_path / "third", seed=1, **options)
        assert (weight(tmp_path / "one") != weight(tmp_path / "third")).any()

    @pytest.mark.parametrize("sampling", ["steps", "episodes"])
    def test_a_run_from_data_that_was_stopped_learns_the_same(
        self, sampling, tmp_path, monkeypatch
    ):
        """With films of what it imagines in between, whose draws are others."""
        write_episodes(tmp_path / "data", [episode(seed) for seed in range(3)])
        options = {"run__data": str(tmp_path / "data"), "run__updates": 12, "run__video": True}
        options |= {"run__report_every": 3, "replay__sampling": sampling, **DEFAULT, **QUIET}
        run(tmp_path / "whole", **options)
        learn = base_run.BaseRun._learn

        def interrupted(self):
            learn(self)
            if self.updates in (4, 7):
                signal.raise_signal(signal.SIGTERM)

        monkeypatch.setattr(base_run.BaseRun, "_learn", interrupted)
        for updates in (4, 7, 12):
            run(tmp_path / "parts", **options)
            assert counters(tmp_path / "parts")["updates"] == updates
        np.testing.assert_array_equal(weight(tmp_path / "parts"), weight(tmp_path / "whole"))

    def test_a_run_that_collects_goes_on_in_a_new_episode(self, tmp_path):
        """What differs after a stop: the environments begin anew, with a seed of their own."""
        options = {"env__kwargs": {"end": 30}, **DEFAULT, **QUIET}
        run(tmp_path / "whole", run__frames=100, **options)
        for frames in (70, 100):
            run(tmp_path / "parts", run__frames=frames, **options)
        whole, parts = (replayed(tmp_path / name) for name in ("whole", "parts"))
        stop = 70 + 3  # Rows of 70 steps: three episodes have begun.
        for key, value in whole.items():
            np.testing.assert_array_equal(value[:stop], parts[key][:stop], key)
        assert parts["is_first"][stop] and not whole["is_first"][stop]
        one, other = counters(tmp_path / "whole"), counters(tmp_path / "parts")
        assert one["updates"] == other["updates"] and one["frames"] == other["frames"]


def test_the_replay_is_never_emptied_where_a_checkpoint_may_need_it(tmp_path):
    """Rows of before the first checkpoint go, those of a named one never do."""
    run(tmp_path, **QUIET)
    rows = replayed(tmp_path)
    for path in checkpoints(tmp_path):
        shutil.rmtree(path / "tree")
    with pytest.raises(UserError, match="is damaged"):
        run(tmp_path, run__frames=200, **QUIET)
    for key, value in replayed(tmp_path).items():
        np.testing.assert_array_equal(value, rows[key])
    assert os.listdir(tmp_path / run_folder.CHECKPOINTS) == [f"{100:012d}"]
    assert checkpoint.latest(tmp_path / run_folder.CHECKPOINTS) == 100
