"""Steps an environment at random and says in plain text what an agent would meet."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import numpy as np

from common.envs.base import Envs
from common.envs.config import EnvConfig
from common.envs.pictures import NoPicture
from common.envs.registry import Task, make
from common.rows import LOG_PREFIX
from common.spaces import ActionPart, ObservationSpec

LARGE = 100.0
REPEATED_STEPS = 10

Rows = list[dict[str, np.ndarray]]


def check_env(
    env: Task | Envs, config: EnvConfig | None = None, seed: int = 0, steps: int = 200
) -> str:
    """Takes random actions and reports observations, actions, episodes and problems.

    Args:
        env: A task for ``make``, or environments that exist already (they stay open).
        config: How a task's environments are built.
        seed: Seed of the environments and of the actions.
        steps: Agent steps to take.

    Returns:
        The report, several lines.

    Raises:
        UserError: The environment cannot be built, or its observations disagree with
            its spaces or are not finite.
    """
    if hasattr(env, "step_async"):
        return "\n".join(_examine(type(env).__name__, env, seed, steps).lines())
    config = config or EnvConfig()
    name = env if isinstance(env, str) else getattr(env, "__name__", repr(env))
    with contextlib.closing(make(env, config, seed)) as envs:
        found = _examine(name, envs, seed, steps)
    # One after the other: of some environments a process can hold only one.
    with contextlib.closing(make(env, config, seed)) as copy:
        again = _roll(copy, seed, min(REPEATED_STEPS, steps))
    if not _equal(found.rows, again):
        found.problems.append("two copies with the same seed differ: runs cannot be repeated")
    found.problems.extend(config.challenge.remarks())
    return "\n".join(found.lines())


class _Findings(NamedTuple):
    """What was seen of environments.

    Attributes:
        report: Lines of the report.
        problems: What is wrong, or may be.
        rows: Every step.
    """

    report: list[str]
    problems: list[str]
    rows: Rows

    def lines(self) -> list[str]:
        problems = [f"problem: {problem}" for problem in self.problems]
        return [*self.report, *(problems or ["no problems found"])]


def _examine(name: str, envs: Envs, seed: int, steps: int) -> _Findings:
    rows = _roll(envs, seed, steps)
    video, problem = _video(envs)
    problems = [*_problems(envs, rows), *([problem] if problem else [])]
    return _Findings(_report(name, envs, rows, video), problems, rows)


def _roll(envs: Envs, seed: int, steps: int) -> Rows:
    rng = np.random.default_rng(seed)
    return [envs.step(envs.action_spec.sample(rng, envs.num_envs)) for _ in range(steps)]


def _equal(rows: Rows, again: Rows) -> bool:
    return all(
        np.array_equal(first[key], second[key])
        for first, second in zip(rows, again, strict=False)
        for key in second
        if not key.startswith(LOG_PREFIX)
    )


def _report(name: str, envs: Envs, rows: Rows, video: str) -> list[str]:
    lines = [
        f"task          {name}",
        f"environments  {envs.num_envs}, {envs.action_repeat} simulator steps per action",
        "observations",
    ]
    for key, spec in envs.observation_specs.items():
        values = np.stack([row[key] for row in rows])
        lines.append(
            f"  {key}: {np.dtype(spec.dtype)} {spec.shape}, seen {values.min():.4g} to "
            f"{values.max():.4g}; {_taken_as(spec)}"
        )
    lines.append(f"actions       {envs.action_spec.size} entries")
    lines += [f"  {_describe(part)}" for part in envs.action_spec.parts]
    logged = sorted({key for row in rows for key in row if key.startswith(LOG_PREFIX)})
    lines += [*_episodes(rows), f"video frames  {video}"]
    return lines + ([f"logged        {', '.join(logged)}"] if logged else [])


def _taken_as(spec: ObservationSpec) -> str:
    if spec.kind == "image":
        return "encoded and decoded by convolutions, as an image"
    what = f"one-hot of {len(spec.choices)} choice(s)" if spec.choices else "a vector"
    return f"encoded and decoded by MLP, as {what}"


def _describe(part: ActionPart) -> str:
    name = "/".join(map(str, part.path)) or "action"
    if part.kind == "categorical":
        return f"{name}: one of {part.size} choices"
    return f"{name}: {part.size} numbers, scaled from {min(part.low):g} .. {max(part.high):g}"


def _episodes(rows: Rows) -> list[str]:
    lengths, returns, terminal = [], [], 0
    for index in range(len(rows[0]["reward"])):
        length, total = 0, 0.0
        for row in rows:
            first = row["is_first"][index]
            length, total = (0, 0.0) if first else (length + 1, total + row["reward"][index])
            if row["is_last"][index]:
                lengths.append(length)
                returns.append(total)
                terminal += int(row["is_terminal"][index])
    rewards = np.stack([row["reward"] for row in rows])
    lines = [f"rewards       {rewards.min():.4g} to {rewards.max():.4g} per agent step"]
    if not lengths:
        return [*lines, f"episodes      none ended within {len(rows)} agent steps"]
    return [
        *lines,
        f"episodes      {len(lengths)} ended, {terminal} of them terminal, "
        f"{len(lengths) - terminal} by a time limit or truncation",
        f"  length {min(lengths)} to {max(lengths)}, mean {np.mean(lengths):.1f} agent steps",
        f"  return {min(returns):.4g} to {max(returns):.4g}, mean {np.mean(returns):.4g}",
    ]


def _video(envs: Envs) -> tuple[str, str]:
    """Returns what films would show, and what is wrong with it."""
    try:
        frame = envs.render()
    except NoPicture as reason:
        return "none", f"the environment cannot be filmed: {reason}"
    return ("none: the environment gives no picture" if frame is None else f"{frame.shape}"), ""


def _problems(envs: Envs, rows: Rows) -> list[str]:
    notes = getattr(envs, "notes", {})
    problems = [f"observation {key!r} {words}" for key, words in notes.items()]
    for key, spec in envs.observation_specs.items():
        values = np.stack([row[key] for row in rows])
        if (values == values[:1]).all():
            problems.append(f"observation {key!r} never changes")
        elif spec.kind == "vector" and np.abs(values).max() > LARGE:
            largest = np.abs(values).max()
            problems.append(
                f"observation {key!r} reaches {largest:.4g}; scale it to about -1 .. 1, or learn "
                "with --vector_transform standard, as the preset gym does"
            )
    rewards = np.stack([row["reward"] for row in rows])
    if (rewards == 0).all():
        problems.append(f"every reward was 0 in {len(rows)} random steps: sparse, or a mistake")
    elif np.abs(rewards).max() > LARGE:
        problems.append(
            f"rewards reach {np.abs(rewards).max():.4g}; consider "
            "--world_model.reward_transform tanh, or scale them"
        )
    if not envs.max_steps and not any(row["is_last"].any() for row in rows):
        problems.append(
            f"no episode ended within {len(rows)} agent steps, and no time limit is known; if "
            "episodes do not end by themselves, set --env.time_limit (in simulator steps)"
        )
    return problems
