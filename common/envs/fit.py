"""Whether an agent fits environments: what both call an observation and an action."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from common.envs.base import Envs
from common.errors import UserError
from common.spaces import ActionPart, ActionSpec, ObservationSpec


def check_fits(
    observations: Mapping[str, ObservationSpec], actions: ActionSpec, envs: Envs, who: str
) -> None:
    """Compares what an agent was trained on with what environments have.

    Args:
        observations: What the agent was trained on.
        actions: What it acts with.
        envs: What it should act in.
        who: Its name, for the message.

    Raises:
        UserError: They differ; the message names every difference.
    """
    before = {f"observation {key!r}": _observation(spec) for key, spec in observations.items()}
    before |= {_action_name(part): _action(part) for part in actions.parts}
    specs = envs.observation_specs
    now = {f"observation {key!r}": _observation(spec) for key, spec in specs.items()}
    now |= {_action_name(part): _action(part) for part in envs.action_spec.parts}
    differences = "; ".join(_differences(before, now))
    if differences:
        raise UserError(f"{who} was trained on other observations or actions: {differences}")


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name, "missing"), now.get(name, "missing")
        if old != new:
            yield f"{name} was {old}, now {new}"


def _observation(spec: ObservationSpec) -> str:
    if spec.kind == "image":
        return f"an image {'x'.join(map(str, spec.shape))}"
    if spec.tasks:
        return "one of the tasks " + ",".join(task.name for task in spec.tasks)
    if spec.choices:
        return f"one-hot of {_numbers(spec.choices)} choices from {_numbers(spec.starts)}"
    return f"{spec.shape[0]} numbers"


def _action_name(part: ActionPart) -> str:
    return "/".join(["action", *map(str, part.path)])


def _action(part: ActionPart) -> str:
    if part.kind == "categorical":
        return f"one of {part.size} choices from {part.start}"
    shape = "x".join(map(str, part.shape)) or "1"
    return f"{shape} numbers in {_numbers(part.low)} .. {_numbers(part.high)}"


def _numbers(values: tuple[float, ...]) -> str:
    """Writes numbers out, equal ones once."""
    different = dict.fromkeys(values)
    shown = different if len(different) == 1 else values
    return ", ".join(f"{value:.9g}" for value in shown)
