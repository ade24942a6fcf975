"""Trained agents, ready to act: no replay, no optimizer, no environment."""

from __future__ import annotations

import pathlib
import types
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from common.agent import Agent
from common.checks import check_range
from common.config import update
from common.errors import OtherAgent, UserError
from common.export import Exported, check_params, read_export
from common.model.save import NAME as WORLD_MODEL
from common.rows import observation_entries
from common.run.batched import BatchedAgent, check_carry
from common.run.driver import ActFunction
from common.run.program import Program, find_program
from common.types import Mode


class LoadedAgent:
    """A trained agent that acts in one environment; ``batched`` acts in several.

    Attributes:
        config: The configuration that it was trained with.
        observations: The flat observation that it expects.
        actions: The flat action vector, which ``act`` turns into the environment's action.
    """

    def __init__(
        self,
        program: Program,
        path: str | pathlib.Path,
        seed: int = 0,
        changes: Mapping[str, Any] = types.MappingProxyType({}),
        precise: bool = False,
    ):
        """Reads a run folder or an exported file.

        Args:
            program: The program of the agent that was trained, or one that adopts it.
            path: Run folder or exported file.
            seed: Seed of the draws.
            changes: Options to change, by dotted path, of the section that says how to act.
            precise: Whether to act in float32, whatever it learned in.

        Raises:
            UserError: There is no trained agent, or one of another program or version, or
                its file is damaged, or a change is to what was learned.
        """
        exported = read_export(path)
        values = exported.config
        if exported.agent != program.name:
            if program.adopt is None and exported.agent == WORLD_MODEL:
                raise UserError(
                    f"{path} holds a world model and no agent; read it with common.load_world_model"
                )
            if program.adopt is None:
                raise OtherAgent(path, exported.agent)
            if WORLD_MODEL not in exported.params:
                held = ", ".join(exported.params)
                raise UserError(f"{path} holds no world model to plan in, but {held}")
            values = program.adopt(values)
        for name in changes:
            if not program.acting or not name.startswith(f"{program.acting}."):
                may = f"only --{program.acting}.* may" if program.acting else "nothing can"
                raise UserError(f"--{name} cannot change once an agent is trained; {may}")
        if precise:
            values = {**values, "world_model": {**values["world_model"], "precision": "float32"}}
        self.config = update(program.default_config, values, changes)
        self.observations, self.actions = exported.observations, exported.actions
        agent = self._make_agent(program, exported)
        wanted = jax.eval_shape(lambda key: agent.params(agent.init(key)), jax.random.key(0))
        check_params(exported.params, wanted, path)
        self.params = jax.tree.map(jax.numpy.asarray, exported.params)
        self.act_function = ActFunction(agent)
        self._value = jax.jit(agent.value) if agent.value else None
        self._key = jax.random.key(seed)
        self._like = jax.eval_shape(lambda: agent.initial_carry(1))

    def _make_agent(self, program: Program, exported: Exported) -> Agent:
        specs = self.observations, self.actions
        if exported.agent in (program.name, WORLD_MODEL) or program.guided is None:
            return program.make_agent(self.config, *specs)
        other = find_program(exported.agent)
        config = update(other.default_config, exported.config)
        return program.guided(self.config, lambda: other.make_agent(config, *specs), *specs)

    def act(
        self,
        observation: Any,
        carry: Any = None,
        *,
        mode: Mode = "eval",
        reward: float | None = None,
    ) -> tuple[Any, Any]:
        """Chooses the environment's next action.

        Args:
            observation: As the environment returned it; an array or a (nested) dict.
            carry: What the last call returned; None at the start of an episode.
            mode: "eval" for the best action, "train" for a sampled one.
            reward: What arrived with the observation, for agents that look at it; None where
                nobody knows.

        Returns:
            The action in the environment's own form and units, and the carry.

        Raises:
            UserError: The observation is not of the kind that the agent was trained on, or
                not finite, or the carry is none that a call returned.
        """
        first = carry is None
        carry = self.act_function.agent.initial_carry(1) if first else carry
        check_carry(carry, self._like)
        rows = self._rows(observation) | {"is_first": np.array([first])}
        if reward is not None:
            rows["reward"] = np.array([reward], np.float32)
        self._key, action, carry = self.act_function(self.params, self._key, carry, rows, mode=mode)
        return self.actions.decode(np.asarray(action)[0]), carry

    def value(self, observation: Any, carry: Any = None) -> Any:
        """Returns the return that the agent expects from here on, discounted as it learned.

        Args:
            observation: As of ``act``, and then the state is the one that ``act`` would infer
                with the same carry: ``act`` draws from the same random numbers afterwards. Or
                a state: a latent one of the world model with any leading axes, or the carry
                that ``act`` returned.
            carry: What the last call of ``act`` returned; None at the start of an episode.

        Returns:
            A float for one observation, carry or state ``[1]``, else an array ``[...]``.

        Raises:
            UserError: The agent learned no value, or the observation is not of its kind.
        """
        agent = self.act_function.agent
        if agent.value is None:
            raise UserError("this agent learned no value function; a Dreamer does")
        if not hasattr(observation, "_fields"):
            rows = self._rows(observation) | {"is_first": np.array([carry is None])}
            carry = agent.initial_carry(1) if carry is None else carry
            check_carry(carry, self._like)
            _, _, carry = self.act_function(self.params, self._key, carry, rows, mode="eval")
            observation = carry
        value = np.asarray(self._value(self.params, observation))
        return float(value[0]) if value.shape == (1,) else value

    def batched(self, num_envs: int, seed: int = 0) -> BatchedAgent:
        """Returns the agent for several environments at once, with Stable-Baselines3's ``predict``.

        Args:
            num_envs: Environments; each has a memory, and with a planner a search, of its own.
            seed: Seed of the draws.

        Raises:
            UserError: There is no environment.
        """
        check_range("num_envs", num_envs, 1)
        specs = self.observations, self.actions
        return BatchedAgent(self.act_function, self.params, *specs, num_envs, seed)

    def _rows(self, observation: Any) -> dict[str, np.ndarray]:
        rows = observation_entries(observation, self.observations)
        return {key: value[None] for key, value in rows.items()}
