"""``dreamer distill``: from a finished run to a file that acts, and what users do wrong."""

from __future__ import annotations

import re
import shutil
import warnings

import jax
import numpy as np
import pytest

from common.agent import SMALL_ACTOR
from common.config import update
from common.envs import EnvConfig, make
from common.export import export, read_export
from common.logging import read_jsonl
from common.replay import Replay
from common.replay.chunks import read_chunk, write_chunk
from common.rows import row_specs
from common.run import folder as run_folder
from common.run.driver import Driver, RandomPolicy
from dreamer import load
from dreamer.agent import make_agent
from dreamer.program import main
from tests.dreamer.test_agent import CONFIG
from tests.tiny import random_params

TASK = "gym_CartPole-v1"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with random weights and the episodes of a random policy."""
    logdir = tmp_path_factory.mktemp("runs") / "big"
    envs = make(TASK, EnvConfig(workers="none"), 0)
    specs = envs.observation_specs, envs.action_spec
    values = {"task": TASK, "replay.length": 6, "replay.batch": 4, "env.workers": "none"}
    config = update(CONFIG, values)
    run_folder.write(logdir, "dreamer", config)
    agent = make_agent(config, *specs)
    params = random_params(lambda key: agent.params(agent.init(key)))
    export(logdir / "export.npz", "dreamer", config, *specs, params)
    replay = Replay(config.replay, logdir / "replay", row_specs(*specs), 1, 0)
    driver, policy = Driver(envs), RandomPolicy(envs.action_spec, 0)
    driver.act(None)
    for _ in range(120):
        replay.add(driver.receive())
        driver.act(policy)
    driver.receive()
    replay.flush()
    envs.close()
    return logdir


def test_a_small_actor_is_taught_compared_and_exported(run, capsys, tmp_path):
    out = tmp_path / "small.npz"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    words = f"distill --logdir {run} --updates 40 --episodes 2 --out {out} --distill.units 8"
    assert main(words.split()) == 0
    shown = capsys.readouterr().out
    assert "120 rows" in shown and re.search(r"update 40 of 40: divergence 0\.\d+, .* left", shown)
    for who in ("learner", "small actor"):
        assert re.search(rf"{who}: return \d+.* over 2 episodes, [\d,]+ parameters to act", shown)
    exported = read_export(out)
    assert set(exported.params) == {SMALL_ACTOR}
    assert exported.config["distill"]["kind"] == "gru" and exported.config["distill"]["units"] == 8
    assert exported.config["distill"]["layers"] == 2  # Of size_xs.
    small = sum(x.size for x in jax.tree.leaves(exported.params))
    assert f"{small:,} parameters to act" in shown
    large = read_export(run).params
    needed = large["world_model"]["encoder"], large["world_model"]["rssm"], large["actor"]
    amount = sum(x.size for x in jax.tree.leaves(needed))
    assert f"{amount:,} parameters to act" in shown
    agent, carry = load(out), None
    for observation in np.random.default_rng(0).normal(size=(3, 4)):
        action, carry = agent.act(observation, carry)
        assert action in (0, 1)
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


def test_a_single_update_is_said_and_what_agents_kept_is_left_out_silently(run, capsys, tmp_path):
    """Of a run whose rows hold latent states and notes, as those of V3 and curiosity do."""
    kept = tmp_path / "kept"
    shutil.copytree(run, kept)
    for path in (kept / "replay").glob("*.npz"):
        arrays = read_chunk(path)
        rows = len(arrays["is_first"])
        more = {"latent_state/deter": np.zeros((rows, 3), np.uint16)}
        write_chunk(path, arrays | more | {"note/bonus": np.zeros((rows, 2), np.float32)})
    words = f"distill --logdir {kept} --updates 1 --episodes 1 --distill.units 8"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(words.split()) == 0
    shown = capsys.readouterr()
    assert re.search(r"update 1 of 1: divergence 0\.\d+, .*0:00:00 left", shown.out)
    assert "left out" not in shown.err


@pytest.mark.parametrize(
    "words, message",
    [
        ("--logdir nowhere", "there is no run in nowhere"),
        ("--logdir zoo:gym_cartpole", "names a trained agent of the package, for eval, export"),
        ("", "name the run's folder: --logdir"),
        ("--logdir {run} --size size_xxs", "unknown --size 'size_xxs'; did you mean 'size_"),
        ("--logdir {run} --size debug", "unknown --size 'debug'"),
        ("--logdir {run} --updates 0", "--updates must be at least 1, not 0"),
        ("--logdir {run} --episodes none", "--episodes must be an integer, not 'none'"),
        ("--logdir {run} --configs size_xs", "--configs is for training; a trained run has its"),
        ("--logdir {run} --rssm.deter 3", "--world_model.rssm.deter cannot change once an agent"),
        ("--logdir {run} --distill.kind none", "--distill.kind none teaches nobody"),
        ("--logdir {run} --distill.regularizer 5", "--distill.regularizer is for a learner that "),
        ("--logdir {run} --distill.ratio 2", "--distill.ratio is for a learner that still learns"),
        ("--logdir {run} --distill.kind lstm", "distill.kind cannot be 'lstm'"),
        ("--logdir {run} --replay.length 500", "holds no 505 rows in sequence; lower --replay.len"),
        ("--logdir {run} --out small.txt", "--out is 'small.txt'; expected a file that ends in"),
        ("--logdir {run} --out no/small.npz", "is in a folder that is not there; make it first"),
        ("--logdir {run} --out {run}/export.npz", "is the run's own export; choose another"),
        ("--logdir {bare}", "holds no episodes to teach from; expected a run's folder with"),
        ("--logdir {run}/export.npz", "export.npz holds no episodes to teach from"),
        ("--logdir {run} --task gym_Acrobot-v1", "names the task 'gym_CartPole-v1', not"),
    ],
)
def test_mistakes_are_one_line_and_code_2(run, words, message, capsys, tmp_path):
    bare = tmp_path / "bare"
    if "{bare}" in words:
        shutil.copytree(run, bare, ignore=shutil.ignore_patterns("replay"))
    assert main(["distill", *words.format(run=run, bare=bare).split()]) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("error: ") and said.count("\n") == 1
    assert not (run / "small.npz").exists()


@pytest.mark.slow
@pytest.mark.parametrize("version", ["", "dmc_proprio_v3 size_1m"])
def test_a_run_is_taught_while_it_learns(version, tmp_path):
    """Trained, resumed, evaluated, taught from data, of several seeds; then taught once more."""
    options = f"--configs gym {version} debug --task {TASK} --distill.kind gru --distill.units 8"
    options += " --env.workers none --run.video false --run.eval_every 100"
    first = f"train {options} --logdir {tmp_path}/one --run.frames"
    assert main([*first.split(), "200"]) == 0
    lines = list(read_jsonl(tmp_path / "one" / run_folder.METRICS))
    assert any(np.isfinite(line.get("distill/policy_kl", np.nan)) for line in lines)
    assert main([*first.split(), "300"]) == 0
    assert main(["eval", "--logdir", f"{tmp_path}/one", "--episodes", "1"]) == 0
    action, _ = load(tmp_path / "one").act(np.zeros(4))
    assert action in (0, 1)
    seeds = f"train {options} --run.frames 200 --seeds 1,2 --logdir {tmp_path}/two"
    assert main(seeds.split()) == 0
    if not version:  # What V3 keeps of latent states is in no data.
        data = f"train {options} --data {tmp_path}/one --run.updates 5 --logdir {tmp_path}/three"
        assert main(data.split()) == 0
    again = f"distill --logdir {tmp_path}/one --updates 3 --episodes 1 --distill.kind mlp"
    assert main(again.split()) == 0
    assert load(tmp_path / "one" / "small.npz").config.distill.kind == "mlp"
