"""``dreamer distill``: teaches a small actor what a trained run does in its recorded episodes.

The learner no longer changes, and the episodes are those that it was trained on: nothing is
collected, so that the small actor is never taught what to do where only its own mistakes lead. The
longer a run has gone on collecting with what it learned, the less that matters.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from common.agent import NORMALISERS, SMALL_ACTOR, Agent
from common.command import trust
from common.command.commands import existing_run, whole_number
from common.command.flags import Flags
from common.command.presets import preset_names, resolve
from common.config import update
from common.envs.base import Envs
from common.errors import UserError, nearest
from common.export import EXPORT, export
from common.logging import format_seconds
from common.model.context import Context
from common.model.world_model import world_model
from common.replay import Replay
from common.rows import row_specs
from common.run import folder as run_folder
from common.run.clocks import Silence, announced
from common.run.driver import ActFunction, AgentPolicy, Policy
from common.run.evaluation import play
from common.run.loading import LoadedAgent
from common.run.offline import episode_folders
from common.run.program import Program
from common.trained import refuse_name
from common.types import Key, Params, Rows
from dreamer.agent import ACTING
from dreamer.config import Config
from dreamer.distillation.acting import acting_amount
from dreamer.distillation.config import DistillConfig
from dreamer.distillation.distiller import Distiller
from dreamer.networks import make_networks

SIZES = "size_"
BURN_IN = 5
"""Rows before each window, where the run had none: both then know where they are."""
MAY_CHANGE = ("distill.", "replay.batch", "replay.length", "replay.burn_in")
TRAINING = ("distill.ratio", "distill.regularizer")
"""What counts only where a learner learns beside the small actor."""


class Teaching(NamedTuple):
    """A small actor in the making.

    Attributes:
        init: ``(key) -> state``.
        step: ``(state, learner, key, batch) -> (state, metrics)``; the learner is parameters of
            "world_model", "actor" and "critic", and what was counted.
    """

    init: Callable[[Key], Any]
    step: Callable[[Any, Params, Key, Rows], tuple[Any, dict[str, Any]]]


def distill(program: Program[Config], parsed: Flags) -> int:
    """Runs the command; returns the exit code.

    Raises:
        UserError: There is no run, or none with episodes, or a mistake in an option.
    """
    refuse_name(parsed.extra.get("logdir", ""))
    logdir, values = existing_run(parsed), _changes(parsed)
    updates = whole_number(parsed, "updates", 5000, least=1)
    episodes = whole_number(parsed, "episodes", 10, least=1, most=10_000)
    seed, out = whole_number(parsed, "seed", 0), _out(parsed, logdir)
    size = _size(program, parsed.extra.get("size", "size_xs"))
    run = LoadedAgent(program, logdir)
    trust.check_task(run.config.task, run.config.env.kwargs, parsed.extra.get("task"), logdir)
    learner = dataclasses.replace(run.config, distill=DistillConfig())
    config = small_config(learner, size | values)
    replay = _replay(config, run, logdir, seed)
    params = {name: run.params[name] for name in (*ACTING, NORMALISERS) if name in run.params}
    small = teach(config, run, params, replay, updates, seed)
    held = params | {SMALL_ACTOR: small}
    alone = {name: held[name] for name in (SMALL_ACTOR, NORMALISERS) if name in held}
    export(out, program.name, config, run.observations, run.actions, alone)
    for name, one in (("learner", learner), ("small actor", config)):
        agent = program.make_agent(one, run.observations, run.actions)
        make_policy = functools.partial(_policy, agent, held, seed)
        results = play(config.task, config.env, episodes, seed, make_policy)
        amount = acting_amount(params if one is learner else held)
        print(f"{name}: {results}, {amount:,} parameters to act", flush=True)
    print(f"export: {out}")
    return 0


def small_config(learner: Config, values: dict[str, Any]) -> Config:
    """Returns the configuration of a run with a small actor more.

    Args:
        learner: Of the run, without one.
        values: Options of the small actor, by dotted path.
    """
    replay = learner.replay
    begin = {"replay.latents": False, "replay.burn_in": replay.burn_in or BURN_IN}
    alone = {"exploration.method": "none", "exploration.until": 0, "exploration.task_scale": 0}
    alone |= {"planner.acts": False, "distill.kind": "gru"}
    return update(learner, alone | begin | values)


def make_teaching(config: Config, run: LoadedAgent) -> Teaching:
    """Returns how a learner teaches that stays as it is.

    Args:
        config: Of the small actor and the learner.
        run: Whose observations and actions they have.
    """
    model = world_model(config.world_model, run.observations, run.actions)
    networks = make_networks(config.actor, config.critic, run.actions, config.world_model.precision)
    distiller = Distiller(model, networks, config)
    context = Context(model, config.replay.latents, config.replay.burn_in)

    def step(state: Any, learner: Params, key: Key, batch: Rows) -> tuple[Any, dict[str, Any]]:
        keys, normalisers = jax.random.split(key), learner.get(NORMALISERS, {})
        world, statistics = learner["world_model"], normalisers.get("vectors", {})
        rows, start = context.begin(world, statistics, keys[0], batch)
        states = model.observe(world, keys[1], rows, start, statistics)
        lesson = distiller.lesson(learner, normalisers, states)
        taught = distiller.teach(*state, statistics, batch, lesson)
        return (taught.params, taught.optimizer), taught.metrics

    return Teaching(distiller.init, step)


def teach(
    config: Config, run: LoadedAgent, learner: Params, replay: Replay, updates: int, seed: int
) -> Params:
    """Teaches a small actor and says how far it is; returns its parameters.

    Args:
        config: As of ``make_teaching``.
        run: As of ``make_teaching``.
        learner: As of ``Teaching.step``.
        replay: Episodes.
        updates: Batches of them.
        seed: Of weights and draws.
    """
    teaching, learner = make_teaching(config, run), jax.device_put(learner)
    keys = jax.random.split(jax.random.key(seed))
    state, step, silence = jax.jit(teaching.init)(keys[0]), jax.jit(teaching.step), Silence()
    metrics, begin = {}, time.monotonic()
    for number in range(updates):
        batch = replay.sample(config.replay.batch, config.replay.window)
        key = jax.random.fold_in(keys[1], number)
        if number == 0:
            with announced("compiling the lesson"):
                state, metrics = jax.block_until_ready(step(state, learner, key, batch))
            begin = time.monotonic()
            silence.broken()
        else:
            state, metrics = step(state, learner, key, batch)
        if silence.too_long() or number + 1 == updates:
            left = (time.monotonic() - begin) / max(number, 1) * (updates - number - 1)
            progress = _progress(number + 1, updates, metrics)
            print(f"{progress}, {format_seconds(left)} left", flush=True)
    if not np.isfinite(float(metrics["distill/grad_norm"])):
        raise UserError("the gradients are not finite; lower --distill.opt.lr")
    return state[0]


def _progress(done: int, updates: int, metrics: dict[str, Any]) -> str:
    kl, value = (float(metrics[f"distill/{name}"]) for name in ("policy_kl", "value_loss"))
    return f"update {done:,} of {updates:,}: divergence {kl:.4f}, value loss {value:.4f}"


def _changes(parsed: Flags) -> dict[str, Any]:
    if parsed.configs:
        raise UserError("--configs is for training; a trained run has its own options: --size")
    for name in parsed.values:
        if not name.startswith(MAY_CHANGE):
            raise UserError(
                f"--{name} cannot change once an agent is trained; only --distill.*, "
                "--replay.batch, --replay.length and --replay.burn_in may"
            )
        if name in TRAINING:
            raise UserError(
                f"--{name} is for a learner that still learns (dreamer train --distill.kind gru); "
                "leave it out"
            )
    if parsed.values.get("distill.kind") == "none":
        raise UserError("--distill.kind none teaches nobody; expected gru or mlp")
    return parsed.values


def _size(program: Program[Config], name: str) -> dict[str, Any]:
    """Returns the sizes of the small actor, those of a preset."""
    names = [one for one in preset_names() if one.startswith(SIZES)]
    if name not in names:
        raise UserError(f"unknown --size {name!r}{nearest(name, names)}")
    preset = resolve(program, [name])
    return {
        "distill.layers": preset.actor.layers,
        "distill.units": preset.actor.units,
        "distill.depth": preset.world_model.encoder.depth,
    }


def _out(parsed: Flags, logdir: pathlib.Path) -> pathlib.Path:
    folder = logdir.parent if logdir.is_file() else logdir
    out = pathlib.Path(parsed.extra.get("out", folder / "small.npz")).expanduser()
    if out.suffix != ".npz" or out.is_dir():
        raise UserError(f"--out is {str(out)!r}; expected a file that ends in .npz")
    if not out.parent.is_dir():
        raise UserError(f"--out {out} is in a folder that is not there; make it first")
    if out.exists() and out.name == EXPORT:
        raise UserError(f"--out {out} is the run's own export; choose another name")
    return out


def _replay(config: Config, run: LoadedAgent, logdir: pathlib.Path, seed: int) -> Replay:
    """Reads the run's episodes, or those that it learned from."""
    replay = Replay(config.replay, None, row_specs(run.observations, run.actions), 1, seed)
    if not config.run.data and not any((logdir / run_folder.REPLAY).glob("*.npz")):
        raise UserError(
            f"{logdir} holds no episodes to teach from; expected a run's folder with "
            f"{run_folder.REPLAY}/, which training writes"
        )
    for folder in episode_folders(config.run.data or logdir, config.task):
        replay.read(folder, run.actions, leave_out=True)
    if not replay.can_sample(config.replay.window):
        raise UserError(
            f"{logdir} holds no {config.replay.window} rows in sequence; lower --replay.length"
        )
    print(f"{replay.episodes:,} episodes, {len(replay):,} rows")
    return replay


def _policy(agent: Agent, params: Params, seed: int, envs: Envs) -> Policy:
    return AgentPolicy(ActFunction(agent), params, envs.num_envs, seed, "eval")
