"""Runs that learn in one program are what they are alone."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time

import jax
import numpy as np
import pytest

from common.command import line as cli
from common.command.presets import resolve
from common.config import update
from common.errors import STOPPED, UserError
from common.export import read_export
from common.run import checkpoint, fleet
from common.run import folder as run_folder
from common.run.members import Labelled, Member, train_fleet
from common.run.train import train
from dreamer.program import load_program as load_dreamer
from planet.program import load_program as load_planet
from tests import fake_agent
from tests.envs.known import Echo

DEBUG = {
    "run.video": False,
    "run.random_episodes": 0,
    "run.eval_episodes": 0,
    "env.workers": "none",
}


def members(program, parent, seeds, **options):
    """A fleet of some seeds; underscores in the names of options stand for dots."""
    options = {key.replace("__", "."): value for key, value in options.items()}
    configs = [update(program.default_config, options | {"seed": seed}) for seed in seeds]
    return [Member(f"seed {x.seed}", x, parent / f"seed-{x.seed}") for x in configs]


def files(logdir):
    """What a run learned, counted, saw and wrote, without what the clock says."""
    params = read_export(logdir / "export.npz").params
    lines = [json.loads(line) for line in (logdir / "metrics.jsonl").read_text().splitlines()]
    lines = [{k: v for k, v in x.items() if not k.startswith("time/")} for x in lines]
    folder = logdir / run_folder.CHECKPOINTS
    scores = (logdir / "scores.jsonl").read_text()
    return jax.tree.leaves(params), lines, checkpoint.metadata(folder), scores


def assert_same(one, two, tolerance=0.0):
    """Compares what ``files`` returned."""
    for a, b in zip(one[0], two[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    for a, b in zip(one[1], two[1], strict=True):
        assert a == pytest.approx(b, rel=tolerance * 100, abs=tolerance)
    assert one[2:] == two[2:]


@pytest.fixture(params=["in turn", "side by side"])
def way(request, monkeypatch):
    """As on a CPU, and as on a GPU."""
    if request.param == "side by side":
        monkeypatch.setattr(fleet.jax, "default_backend", lambda: "gpu")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("latents", [False, True])
def test_members_are_runs_of_their_own(tmp_path, latents):
    """Whole runs of the tiny agent: films, evaluations, replay and counters, to the bit."""
    program = fake_agent.load_program()
    options = {"replay.latents": latents, "run.video": True, "run.frames": 120}
    fleet_ = members(program, tmp_path, (1, 2, 3), **options)
    assert all(end.finished for end in train_fleet(program, fleet_))
    for member in fleet_:
        train(program, member.config, tmp_path / "alone" / member.name)
        assert_same(files(member.logdir), files(tmp_path / "alone" / member.name))
    assert len({files(member.logdir)[3] for member in fleet_}) == 3


# V3's eps is so small that an entry whose gradient is nothing but rounding moves by a whole rate,
# this way or that; nor does anything move in the first of its updates.
PLAIN = {"model_opt.eps": 1e-5, "model_opt.lr_schedule": "1"}
SMALL = {
    "tdmpc2": {"latent": 32, "units": 32, "encoder_units": 32},
    "planner.candidates": 32,
    "planner.elites": 8,
}


@pytest.mark.parametrize(
    ("load", "presets", "more", "way"),
    [
        (load_dreamer, ["gym", "debug"], {}, "side by side"),
        *(
            pytest.param(*case, way, marks=pytest.mark.slow)
            for way in ("in turn", "side by side")
            for case in (
                (load_planet, ["tdmpc2"], SMALL),
                (load_planet, ["planet_state", "debug"], {"model_opt.eps": 1e-5}),
                (load_planet, ["tdm", "debug"], {"model_opt.eps": 1e-5}),
                (load_dreamer, ["dmc_proprio_v3", "debug"], PLAIN),
            )
        ),
    ],
    indirect=["way"],
)
def test_a_member_learns_what_a_single_run_does(tmp_path, way, load, presets, more):
    program = load()
    options = DEBUG | {"task": "gym_Pendulum-v1", "run.prefill": 60, "run.frames": 71}
    options |= {"run.pretrain": 0, "run.train_every": 2, "replay.batch": 4, "replay.length": 4}
    options |= {"run.train_ratio": 0, "run.updates_per_episode": 0, "run.prefill_episodes": 0}
    options |= {"replay.minimum": 0, "env.action_repeat": 1, "env.amount": 1} | more
    configs = [resolve(program, presets, options | {"seed": seed}) for seed in (1, 2, 3)]
    fleet_ = [Member(f"seed {x.seed}", x, tmp_path / str(x.seed)) for x in configs]
    ends = train_fleet(program, fleet_)
    assert all(end.finished and end.updates >= 5 for end in ends), ends
    for member in fleet_[1:]:
        train(program, member.config, tmp_path / "alone" / member.name)
        assert_same(files(member.logdir), files(tmp_path / "alone" / member.name), 1e-5)


@pytest.mark.slow
def test_different_games_share_one_program(tmp_path):
    """Atari's preset shows all games alike: 18 actions, gray pictures of 64 x 64."""
    program = load_dreamer()
    options = DEBUG | {
        "seed": 1,
        "run.prefill": 120,
        "run.pretrain": 0,
        "run.train_every": 4,
        "run.frames": 600,
    }
    games = ("atari_pong", "atari_boxing")
    configs = [resolve(program, ["atari", "debug"], options | {"task": game}) for game in games]
    fleet_ = [Member(x.task, x, tmp_path / x.task) for x in configs]
    ends = train_fleet(program, fleet_)
    assert all(end.finished and end.updates > 1 for end in ends), ends
    pong, boxing = (files(member.logdir) for member in fleet_)
    assert not all(np.array_equal(a, b) for a, b in zip(pong[0], boxing[0], strict=True))


def test_a_member_leaves_goes_on_alone_and_comes_back(tmp_path):
    program = fake_agent.load_program()
    for frames, together in ((100, True), (160, False), (220, True)):
        fleet_ = members(program, tmp_path / "fleet", (1, 2), run__frames=frames)
        alone = members(program, tmp_path / "alone", (1, 2), run__frames=frames)
        if together:
            assert all(end.finished for end in train_fleet(program, fleet_))
        for member in alone if together else (*alone, *fleet_):
            assert train(program, member.config, member.logdir).finished
        for one, other in zip(fleet_, alone, strict=True):
            assert_same(files(one.logdir), files(other.logdir))


class Failing(Echo):
    """Fails for ever after some steps, or gives huge rewards, by the thread that it is in."""

    def step(self, action):
        name = threading.current_thread().name
        STEPS[name] = STEPS.get(name, 0) + 1
        if name == "seed 1" and STEPS[name] > 30:
            raise RuntimeError("broken hinge")
        observation, reward, *rest = super().step(action)
        return observation, 3e38 if name == "seed 3" else reward, *rest


STEPS: dict[str, int] = {}


def test_who_fails_ends_alone(tmp_path, capfd):
    """One crashes, the numbers of another one overflow; the third is what it is alone."""
    program = fake_agent.load_program()
    options = {"task": "tests.run.test_fleet:Failing", "run.frames": 200, "run.random_episodes": 0}
    fleet_ = members(program, tmp_path, (1, 2, 3), **options, run__eval_episodes=0)
    crashed, well, mad = train_fleet(program, fleet_)
    assert isinstance(crashed, UserError) and "crashed 3 times" in str(crashed)
    assert well.finished and well.frames == 200 and mad.finished
    with pytest.raises(UserError, match="holds numbers in 'model.w' that are not finite"):
        files(fleet_[2].logdir)
    said = capfd.readouterr().err
    assert "seed 1 | error: environment 0 crashed 3 times" in said and "seed 2 | error" not in said
    alone = members(program, tmp_path / "alone", (2,), **options, run__eval_episodes=0)[0]
    train(program, alone.config, alone.logdir)
    assert_same(files(fleet_[1].logdir), files(alone.logdir))


def test_a_signal_stops_all_with_checkpoints_and_the_command_goes_on(tmp_path, capsys):
    logdir = tmp_path / "fleet"
    words = ["train", "--seeds", "4,5", "--logdir", str(logdir), "--run.eval_every", "0"]

    def interrupt():
        path = logdir / "seed-5" / "metrics.jsonl"
        while not path.exists() or len(path.read_text().splitlines()) < 5:
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    load = fake_agent.load_program
    assert cli.main("fake", load, [*words, "--run.frames", "100000000"]) == STOPPED
    thread.join()
    for seed in (4, 5):
        found = checkpoint.metadata(logdir / f"seed-{seed}" / run_folder.CHECKPOINTS)
        assert found["frames"] > 0
    more = str(found["frames"] + 1000)
    assert cli.main("fake", load, [*words, "--run.frames", more]) == 0
    said = capsys.readouterr()
    assert "seed 4 | stopped at frame" in said.out and "seed 5 | resumed at frame" in said.out
    assert said.out.count("report: ") == 2
    assert (logdir / "seed-4" / "report.html").exists()


class Hanging(Echo):
    """Does not answer after some steps."""

    def step(self, action):
        name = threading.current_thread().name
        STEPS[name] = STEPS.get(name, 0) + 1
        if name == "seed 9" and STEPS[name] > 30:
            HANGS.set()
            ANSWERS.wait()
        return super().step(action)


HANGS, ANSWERS = threading.Event(), threading.Event()


def test_a_second_interrupt_ends_those_that_wait_for_an_environment(tmp_path):
    program = fake_agent.load_program()
    options = {"task": "tests.run.test_fleet:Hanging", "run.frames": 200, "run.random_episodes": 0}
    fleet_ = members(program, tmp_path, (8, 9), **options, run__eval_episodes=0)
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}

    def interrupt():
        HANGS.wait()
        os.kill(os.getpid(), signal.SIGINT)
        end = time.monotonic() + 30
        while signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            if time.monotonic() > end:
                return ANSWERS.set()
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        train_fleet(program, fleet_)
    thread.join()
    running = [one for one in threading.enumerate() if one.name in ("seed 8", "seed 9")]
    assert running and all(one.daemon for one in running)  # Else Python would wait for them.
    ANSWERS.set()
    for one in running:
        one.join()
    assert {name: signal.getsignal(name) for name in before} == before


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("--seeds x", "--seeds is 'x'; expected numbers such as 1,2,3"),
        ("--seed 7 --seeds 1,2", "--seeds names the seed of every run; leave --seed out"),
        ("--seeds 1,1", "need a folder each; give every seed once"),
        ("--seeds 1,2 --run.updates_per_episode 5", "run.updates_per_episode is 5; episodes of a"),
        ("--seeds 1,2 --run.devices 2", "one device of one process; set --run.devices 1"),
        ("--seeds 1,2 --run.coordinator h:1,2,0", "one process; leave out --run.coordinator"),
        ("--seeds 1,2 --launcher ray", "--seeds and --launcher do not go together"),
        ("--seeds 1,-2", "seed is -2; expected 0 to"),
    ],
)
def test_mistakes(words, fault, tmp_path, capsys):
    command = ["train", *words.split(), "--logdir", str(tmp_path / "run")]
    assert cli.main("fake", fake_agent.load_program, command) == 2
    assert fault in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_members_of_other_options_or_spaces_are_refused(tmp_path):
    program = fake_agent.load_program()
    one, two = members(program, tmp_path, (1, 2))
    other = two._replace(config=update(two.config, {"replay.batch": 3}))
    with pytest.raises(UserError, match="seed 2 differs from seed 1 in more than task and"):
        train_fleet(program, [one, other])
    wide = two._replace(config=update(two.config, {"task": "gym_Pendulum-v1"}))
    ends = train_fleet(program, [one, wide])
    assert all("the same observations and actions" in str(end) for end in ends)


def test_lines_get_the_name_of_their_thread(capsys):
    stream = Labelled(sys.stdout, {"seed 1"})

    def say():
        for text in ("com", "piling\n", "a\nb\n", "half"):
            stream.write(text)
        stream.flush()

    thread = threading.Thread(target=say, name="seed 1")
    thread.start()
    thread.join()
    print("mine", file=stream)
    assert capsys.readouterr().out == "seed 1 | compiling\nseed 1 | a\nseed 1 | b\nmine\n"
    assert stream.encoding == sys.stdout.encoding
