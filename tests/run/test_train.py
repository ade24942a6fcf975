"""The run loop with a tiny agent: counters, clocks, what it writes, and how it continues."""

from __future__ import annotations

import json
import pathlib
import shutil
import signal

import jax
import numpy as np
import pytest

from common.config import update
from common.envs import make
from common.errors import UserError
from common.export import read_export
from common.logging import read_jsonl
from common.nets.heads import HeadConfig
from common.replay import Replay
from common.replay.config import ReplayConfig
from common.run import base as base_run
from common.run import checkpoint, environments
from common.run import folder as run_folder
from common.run import train as training
from common.run.learner import AgentLearner
from dreamer.agent import make_agent
from dreamer.config import ActorConfig, BehaviorConfig
from dreamer.config import Config as DreamerConfig
from tests import fake_agent
from tests.fake_agent import EVAL_ACTION
from tests.tiny import TINY, VECTOR, choice, random_batch


def run(logdir: pathlib.Path, **options):
    """Trains the tiny agent; underscores in the names stand for dots."""
    program = fake_agent.load_program()
    names = {key.replace("__", "."): value for key, value in options.items()}
    training.train(program, update(program.default_config, names), logdir)


def counters(logdir):
    """What the newest checkpoint says of itself."""
    directory = logdir / run_folder.CHECKPOINTS
    folder = directory / f"{checkpoint.latest(directory):012d}"
    return json.loads((folder / "checkpoint.json").read_text())["metadata"]


def metrics(logdir, name):
    """``[(frames, value)]`` of one metric."""
    records = read_jsonl(logdir / "metrics.jsonl")
    return [(record["frames"], record[name]) for record in records if name in record]


def replayed(logdir):
    """All rows on disk, in order, of one environment."""
    chunks = [np.load(path) for path in sorted((logdir / run_folder.REPLAY).glob("*.npz"))]
    return {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0].files}


def stop_evaluation(monkeypatch, at):
    """Sends SIGTERM as the evaluation of this number begins, the random policy's included."""
    calls, play = [], base_run.play_in

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == at:
            signal.raise_signal(signal.SIGTERM)
        return play(*args, **kwargs)

    monkeypatch.setattr(base_run, "play_in", interrupted)


def listing(folder):
    """Every file below a folder with its content."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class TestCounters:
    """Frames, agent steps, updates."""

    @pytest.mark.parametrize("train_every, updates", [(0.5, 3 + 158), (1, 3 + 79), (5, 3 + 15)])
    def test_updates_follow_the_ratio(self, train_every, updates, tmp_path):
        run(tmp_path, run__train_every=train_every, run__eval_episodes=0, run__random_episodes=0)
        found = counters(tmp_path)
        # The last decision falls at step 99, the first at step 20.
        assert (found["frames"], found["agent_steps"], found["updates"]) == (100, 100, updates)
        assert metrics(tmp_path, "time/updates")[-1] == (100, updates)
        assert not metrics(tmp_path, "eval/return_mean")

    def test_action_repeat_and_several_environments(self, tmp_path):
        options = {"env__amount": 2, "env__action_repeat": 3, "env__kwargs": {"end": 6}}
        run(tmp_path, run__frames=240, run__pretrain=0, **options)
        found = counters(tmp_path)
        assert found["frames"] == 240 and found["agent_steps"] == 80
        assert found["updates"] == (78 - 20) // 2
        rows = replayed(tmp_path)
        # Reset rows are rows, but neither steps nor frames.
        assert (~rows["is_first"]).sum() == 80 and rows["is_first"].sum() == 40
        scores = list(read_jsonl(tmp_path / "scores.jsonl"))
        assert len(scores) == 40 and {score["length"] for score in scores} == {2}

    def test_nothing_is_learned_before_the_prefill(self, tmp_path):
        run(tmp_path, run__prefill=60, run__pretrain=7, run__train_every=1000)
        updates = dict(metrics(tmp_path, "time/updates"))
        assert updates == {20: 0, 40: 0, 60: 0, 80: 7, 100: 7}

    def test_learning_waits_for_rows_of_one_sequence(self, tmp_path):
        run(tmp_path, run__prefill=0, run__train_every=1, run__pretrain=0, replay__length=30)
        # Rows are steps and one reset row before each five of them.
        assert counters(tmp_path)["updates"] == 99 - 25


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with pictures."""
    logdir = tmp_path_factory.mktemp("runs") / "deep" / "run"
    run(logdir, env__kwargs={"pixels": True}, run__video=True, replay__length=10)
    return logdir


class TestRecords:
    """What a run leaves."""

    def test_actions_and_rewards_agree_and_reset_rows_have_none(self, finished):
        rows = replayed(finished)
        first = rows["is_first"]
        np.testing.assert_array_equal(first[:13], [t % 6 == 0 for t in range(13)])
        assert (rows["action"][first] == 0).all() and (rows["reward"][first] == 0).all()
        np.testing.assert_allclose(rows["action"][:, 0], rows["reward"], rtol=1e-6)
        assert not [key for key in rows if key.startswith("log/")]

    def test_evaluation_takes_the_mode_of_one_episode_each(self, finished):
        expected = 5 * EVAL_ACTION
        assert metrics(finished, "eval/return_mean") == [(50, expected), (100, expected)]
        assert metrics(finished, "eval/return_std") == [(50, 0), (100, 0)]
        assert metrics(finished, "eval/length_mean") == [(50, 5), (100, 5)]

    def test_the_random_policy_is_the_baseline(self, finished):
        ((frames, value),) = metrics(finished, "random/return_mean")
        assert frames == 0 and abs(value) < 5 and value != 5 * EVAL_ACTION

    def test_scores_and_averages_of_training_episodes(self, finished):
        scores = list(read_jsonl(finished / "scores.jsonl"))
        assert [score["frames"] for score in scores] == list(range(5, 101, 5))
        rewards = replayed(finished)["reward"][:120].reshape(20, 6).sum(1)
        np.testing.assert_allclose([score["return"] for score in scores], rewards, rtol=1e-5)
        np.testing.assert_allclose([score["twice"] for score in scores], 2 * rewards, rtol=1e-5)
        frames, value = metrics(finished, "episode/return")[0]
        assert frames == 20 and value == pytest.approx(rewards[:4].mean(), rel=1e-5)
        assert metrics(finished, "model/loss") and metrics(finished, "time/frames_per_s")

    def test_videos_of_policy_and_imagination(self, finished):
        names = sorted(path.name for path in (finished / "videos").iterdir())
        ends = ("000000000050.mp4", "000000000100.mp4")
        assert names == [f"{x}-{end}" for x in ("eval_policy", "open_loop_image") for end in ends]

    def test_folder_and_export(self, finished):
        assert {path.name for path in finished.iterdir()} == {
            "checkpoints", "config.yaml", "export.npz", "metrics.jsonl", "replay",
            "scores.jsonl", "tensorboard", "versions.txt", "videos",
        }  # fmt: skip
        exported = read_export(finished)
        assert exported.agent == "fake" and exported.config["run"]["frames"] == 100
        state = restored(finished, pixels=True).tree()["agent"]
        assert int(state.updates) == counters(finished)["updates"] == 3 + 39
        np.testing.assert_array_equal(exported.params["model"]["w"], state.params["model"]["w"])

    def test_a_finished_run_says_so_and_changes_nothing(self, finished, capsys):
        before = listing(finished)
        run(finished, env__kwargs={"pixels": True}, run__video=True, replay__length=10)
        assert "this run is complete at frame 100; raise --run.frames" in capsys.readouterr().out
        assert listing(finished) == before


def restored(logdir, pixels=False):
    """The learner of a run folder."""
    config = update(fake_agent.Config(), {"env.kwargs.pixels": pixels})
    envs = make(config.task, config.env, 0, 1)
    agent = fake_agent.make_agent(config, envs.observation_specs, envs.action_spec)
    learner = AgentLearner(agent, 1, 0)
    learner.load(checkpoint.restore(logdir / run_folder.CHECKPOINTS, learner.tree())[0])
    return learner


def test_progress_is_printed(tmp_path, capsys):
    run(tmp_path)
    printed = capsys.readouterr().out
    for text in (
        "building the agent ... ",
        "fake on tests.envs.known:Echo, 1 environment(s), action repeat 1, on",
        "parameters: model 3",
        "100 frames = 100 agent steps, about 43 updates of 2x4 rows after 20 random agent steps",
        "replay: ",
        f"run folder: {tmp_path}",
        "random policy: return ",
        "compiling the policy (train, 1 environment(s)) ... ",
        "compiling the update ... ",
        "frames 60 (60.0%)",
        "evaluation at frame 50: return 2.5 ± 0.0 over 2 episodes",
    ):
        assert text in printed, text


def test_long_silence_is_broken(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(base_run.Silence, "too_long", lambda self: True)
    run(tmp_path, run__frames=60)
    printed = capsys.readouterr().out
    assert "at frame 10 after 0 updates\n" in printed
    assert "at frame 20 after 2 updates\n" in printed  # Between the updates of pretraining.


class TestResume:
    """The same command goes on."""

    def test_counters_learner_replay_and_logs_continue(self, tmp_path, capsys):
        run(tmp_path)
        before, state = counters(tmp_path), restored(tmp_path).tree()["agent"]
        rows, scores = replayed(tmp_path), (tmp_path / "scores.jsonl").read_text()
        run(tmp_path, run__frames=200)
        assert f"resumed at frame 100 after {before['updates']} updates" in capsys.readouterr().out
        after = counters(tmp_path)
        assert (after["frames"], after["agent_steps"]) == (200, 200)
        # The ratio counts on from the first run's start: no second pretraining.
        assert after["updates"] == 3 + (199 - 20) // 2
        assert after["evaluations"] == 4
        assert int(restored(tmp_path).tree()["agent"].updates) == after["updates"]
        assert int(state.updates) == before["updates"]
        longer = replayed(tmp_path)
        for key, value in rows.items():
            np.testing.assert_array_equal(longer[key][: len(value)], value)
        assert (~longer["is_first"]).sum() == 200
        assert (tmp_path / "scores.jsonl").read_text().startswith(scores)
        assert metrics(tmp_path, "random/return_mean")[0][0] == 0
        evaluated = [frames for frames, _ in metrics(tmp_path, "eval/length_mean")]
        assert evaluated == [50, 100, 150, 200]
        assert "frames: 200" in (tmp_path / "config.yaml").read_text()

    def test_resumed_environments_have_other_seeds(self, tmp_path, monkeypatch):
        seeds = []
        record = lambda *args: seeds.append(args[2]) or make(*args)  # noqa: E731
        monkeypatch.setattr(environments, "make", record)
        for frames in (100, 120):
            run(tmp_path, run__frames=frames, run__eval_episodes=0, run__random_episodes=0)
        assert seeds == [0, 100]

    def test_a_stop_between_changes_no_counter(self, tmp_path):
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        for logdir, ends in ((whole, (60,)), (parts, (41, 60))):
            for frames in ends:
                run(logdir, run__frames=frames, run__eval_every=0, env__kwargs={"end": 30})
        one, other = counters(whole), counters(parts)
        for name in ("frames", "agent_steps", "updates", "ratio"):
            assert one[name] == other[name], name
        for key, value in replayed(whole).items():
            np.testing.assert_array_equal(value[:43], replayed(parts)[key][:43], key)

    def test_what_came_after_the_checkpoint_is_dropped(self, tmp_path):
        """As after a kill: replay, logs and videos go back to the checkpoint."""
        run(tmp_path)
        kept = tmp_path / "kept"
        shutil.copytree(tmp_path / run_folder.CHECKPOINTS, kept)
        run(tmp_path, run__frames=160, run__eval_every=20)
        shutil.rmtree(tmp_path / run_folder.CHECKPOINTS)
        kept.rename(tmp_path / run_folder.CHECKPOINTS)
        run(tmp_path, run__frames=130)
        assert (~replayed(tmp_path)["is_first"]).sum() == 130
        assert [frames for frames, _ in metrics(tmp_path, "eval/length_mean")] == [50, 100, 130]
        frames = [score["frames"] for score in read_jsonl(tmp_path / "scores.jsonl")]
        assert frames == list(range(5, 131, 5))

    @pytest.mark.parametrize("at, frames", [(1, 0), (2, 50), (3, 100)])
    def test_sigterm_ends_evaluations_too(self, at, frames, tmp_path, monkeypatch, capsys):
        """In the random policy's, in one of the run, and in the last one."""
        stop_evaluation(monkeypatch, at)
        before = signal.getsignal(signal.SIGTERM)
        run(tmp_path)
        assert signal.getsignal(signal.SIGTERM) == before
        assert capsys.readouterr().out.endswith(
            f"stopped at frame {frames}; the same command goes on from here\n"
        )
        found = counters(tmp_path)
        assert found["frames"] == frames and not found["finished_frames"]
        run(tmp_path)
        assert counters(tmp_path)["finished_frames"] == 100
        assert metrics(tmp_path, "eval/length_mean")[-1][0] == 100
        assert len(metrics(tmp_path, "random/return_mean")) == 1

    def test_one_more_update_is_equal_bit_for_bit(self, tmp_path):
        """Dreamer stopped and continued between two updates; the sampler too."""
        actions = choice(3)
        config = DreamerConfig(
            world_model=TINY,
            actor=ActorConfig(layers=1, units=8),
            critic=HeadConfig(layers=1, units=8),
            behavior=BehaviorConfig(horizon=3),
            replay=ReplayConfig(capacity=1000, memory=0.1, batch=2, length=4),
        )
        agent = make_agent(config, VECTOR, actions)
        rows = random_batch(VECTOR, actions, batch=1, time=50)
        specs = {key: (value.shape[2:], value.dtype) for key, value in rows.items()}

        def opened():
            return Replay(config.replay, tmp_path / "replay", specs, 1, seed=1)

        def learn():
            return float(learner.update(replay.sample(2, 4))["world_model/loss"])

        learner, replay = AgentLearner(agent, 1, seed=1), opened()
        for step in range(50):
            replay.add({key: value[:, step] for key, value in rows.items()})
        losses = [learn() for _ in range(3)]
        replay.flush()
        checkpoint.save(tmp_path / "checkpoints", 3, learner.tree(), replay.state(), 1)
        losses += [learn(), learn()]
        assert len(set(losses)) == 5
        uninterrupted = jax.device_get(jax.tree.map(plain, learner.tree()))
        tree, metadata = checkpoint.restore(tmp_path / "checkpoints", learner.tree())
        learner.load(tree)
        replay = opened()
        replay.load_state(metadata)
        assert [learn(), learn()] == losses[3:]
        jax.tree.map(
            np.testing.assert_array_equal, jax.tree.map(plain, learner.tree()), uninterrupted
        )


def plain(leaf):
    """A leaf as numbers, keys too."""
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


class TestFailures:
    """A mistake leaves the folder as it was."""

    @pytest.mark.parametrize("at", [0, 1, 50])
    def test_a_fresh_run_that_fails_leaves_nothing(self, at, tmp_path):
        logdir = tmp_path / "a" / "b"
        options = {"task": "tests.envs.toys:Faulty", "env__kwargs": {"fault": "nan", "at": at}}
        with pytest.raises(UserError, match="holds nan"):
            run(logdir, run__random_episodes=0, **options)
        assert not list(tmp_path.iterdir())

    def test_what_was_there_before_stays(self, tmp_path):
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes" / "plan.txt").write_text("x")
        options = {"task": "tests.envs.toys:Faulty", "env__kwargs": {"fault": "nan", "at": 50}}
        with pytest.raises(UserError):
            run(tmp_path, **options)
        assert [path.name for path in tmp_path.rglob("*")] == ["notes", "plan.txt"]

    def test_a_resumed_run_that_fails_keeps_its_checkpoint(self, tmp_path):
        logdir, broken = tmp_path / "run", tmp_path / "broken"
        kwargs = {"env__kwargs": {"broken": str(broken)}}
        run(logdir, **kwargs)
        before = listing(logdir)
        broken.touch()
        with pytest.raises(UserError, match="holds nan"):
            run(logdir, run__frames=200, **kwargs)
        assert listing(logdir) == before
        broken.unlink()
        run(logdir, run__frames=120, **kwargs)
        assert counters(logdir)["frames"] == 120

    @pytest.mark.parametrize("damage", ["cut", "gone"])
    def test_a_damaged_checkpoint_is_named_and_nothing_changes(self, damage, tmp_path):
        run(tmp_path)
        files = (tmp_path / run_folder.CHECKPOINTS).rglob("*")
        largest = max((path for path in files if path.is_file()), key=lambda x: x.stat().st_size)
        if damage == "cut":
            largest.write_bytes(largest.read_bytes()[:-7])
        else:
            largest.unlink()
        before = listing(tmp_path)
        with pytest.raises(UserError, match=r"checkpoint .* is damaged .*; delete that folder"):
            run(tmp_path, run__frames=200)
        assert listing(tmp_path) == before

    def test_another_configuration_is_refused(self, tmp_path):
        run(tmp_path)
        before = listing(tmp_path)
        with pytest.raises(UserError, match=r"another configuration: run.prefill \(20, now 30\)"):
            run(tmp_path, run__prefill=30)
        assert listing(tmp_path) == before

    @pytest.mark.parametrize("options", [{"run__prefill": 100}, {"replay__length": 100}])
    def test_a_run_too_short_to_learn_is_refused(self, options, tmp_path):
        with pytest.raises(UserError, match="run.frames is 100, but learning starts after 100"):
            run(tmp_path / "run", **options)
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_cannot_be_made(self, tmp_path, monkeypatch):
        def refuse(*args, **kwargs):
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
        with pytest.raises(UserError, match="cannot make .*: Read-only file system; choose"):
            run(tmp_path / "run")
