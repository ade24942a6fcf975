"""Several runs learn in one program: the same agent from several seeds, or in several tasks.

Every run has a thread of its own, in which it is what it is alone: its environments, replay, log,
checkpoints and folder. Only updates and actions are computed together, for all members at once.
A GPU, which one small update leaves idle most of the time, makes those of eight in about the time
of one; on a CPU they are made one after another, which processes do better.

The state of all is one tree whose arrays have the members as their first axis. A member that does
not take part, for it has come to its end or plays an evaluation, keeps what it has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from common.agent import Agent, OpenLoop
from common.envs.base import Envs
from common.errors import UserError, warn_once
from common.rows import Specs, without_log
from common.run.clocks import announced
from common.run.driver import ActFunction, AgentPolicy, NumpyRows
from common.run.meeting import Meeting
from common.types import Params, Rows


class Fleet:
    """What the members compute together.

    Attributes:
        amount: How many members there were at the beginning.
        acting: The agent's ``act``, for evaluations.
        report: The agent's ``report``.
        latent_specs: What the replay keeps of latent states.
    """

    def __init__(self, seeds: Sequence[int]):
        """Has no agent yet.

        Args:
            seeds: Of the members; their places in this list are their numbers.
        """
        self.amount, self._seeds = len(seeds), list(seeds)
        work = {"enrol": self._enrol, "put": self._put, "update": self._update, "act": self._act}
        self._meeting = Meeting(range(self.amount), work)
        self._all: dict[str, Any] = {}
        self._last: dict[str, dict[int, NumpyRows]] = {}
        self._done: set[str] = set()
        self.acting: ActFunction
        self.report: Callable[..., Any]
        self.latent_specs: Specs = {}

    def learner(self, member: int, agent: Agent, envs: Envs) -> FleetLearner:
        """Waits for all members; returns the learner of one.

        Args:
            member: Its number.
            agent: Its agent, which is to be that of all others.
            envs: Its training environments.

        Raises:
            UserError: Those of the others are of other shapes.
        """
        shapes = envs.num_envs, envs.observation_specs, envs.action_spec
        self._meeting.call(member, "enrol", (agent, shapes))
        return FleetLearner(self, member)

    def leave(self, member: int) -> None:
        """Says that a member has come to its end."""
        self._meeting.leave(member)

    def update(self, member: int, batch: Rows) -> tuple[dict[str, Any], Rows]:
        """Makes an update; returns metrics and what it inferred of the rows."""
        return self._meeting.call(member, "update", batch)

    def act(self, member: int, rows: NumpyRows) -> np.ndarray:
        """Returns actions ``[N, A]`` with the newest parameters."""
        return self._meeting.call(member, "act", without_log(rows))

    def get(self, member: int, name: str) -> Any:
        """Returns the "state", "key", "policy_key" or "carry" of a member."""
        return jax.tree.map(lambda x: x[member], self._all[name])

    def put(self, member: int, values: Mapping[str, Any]) -> None:
        """Replaces what ``get`` returns, by its names."""
        self._meeting.call(member, "put", values)

    def _put(self, values: dict[int, Mapping[str, Any]]) -> dict[int, None]:
        for member, named in values.items():
            place = lambda whole, one: whole.at[member].set(one)  # noqa: B023, E731
            for name, value in named.items():
                self._all[name] = jax.tree.map(place, self._all[name], value)
        return dict.fromkeys(values)

    def _enrol(self, members: dict[int, tuple[Agent, tuple]]) -> dict[int, None]:
        agent, shapes = next(iter(members.values()))
        if any(others != shapes for _, others in members.values()):
            raise UserError(
                "the members of a fleet need the same number of environments, with the same "
                "observations and actions"
            )
        if jax.default_backend() == "cpu":
            warn_once("on a CPU each seed learns faster by a command of its own, without --seeds")
        kept = agent.latents
        self.acting, self.report = ActFunction(agent, announce=True), jax.jit(agent.report)
        self.latent_specs = kept.specs if kept else {}
        keys = [self._keys(more) for more in range(3)]
        with announced(f"building {self.amount} agents"):
            state = jax.block_until_ready(jax.jit(_for_all(agent.init))(keys[0]))
        empty = agent.initial_carry(shapes[0])
        carry = jax.tree.map(lambda x: jnp.stack([x] * self.amount), empty)
        self._all = {"state": state, "key": keys[1], "policy_key": keys[2], "carry": carry}
        update = kept.update if kept else lambda *given: (*agent.update(*given), {})

        def step(changing: tuple, batch: Rows) -> tuple:
            key, now = jax.random.split(changing[1])
            state, *results = update(changing[0], now, batch)
            return (state, key), results

        def act(changing: tuple, state: Any, rows: Rows) -> tuple:
            key, now = jax.random.split(changing[1])
            action, carry = agent.act(agent.params(state), now, changing[0], rows, "train")
            return (carry, key), action

        self._step = jax.jit(_for_all(_of_those_active(step)), donate_argnums=1)
        self._choose = jax.jit(_for_all(_of_those_active(act)))
        return dict.fromkeys(members)

    def _keys(self, more: int) -> jax.Array:
        """Returns what ``AgentLearner`` makes of the members' seeds ``[S]``."""
        return jnp.stack([jax.random.key(seed + more) for seed in self._seeds])

    def _update(self, batches: dict[int, Rows]) -> dict[int, tuple[dict[str, Any], Rows]]:
        changing = self._all["state"], self._all["key"]
        active, rows = self._together("update", batches)
        with self._announced("compiling the update"):
            changing, found = self._step(active, changing, rows)
            found = jax.device_get(found)
        self._all["state"], self._all["key"] = changing
        return {member: tuple(jax.tree.map(lambda x: x[member], found)) for member in batches}  # noqa: B023

    def _act(self, rows: dict[int, NumpyRows]) -> dict[int, np.ndarray]:
        changing = self._all["carry"], self._all["policy_key"]
        active, together = self._together("act", rows)
        with self._announced("compiling the policy"):
            changing, actions = self._choose(active, changing, self._all["state"], together)
            actions = np.asarray(actions)
        self._all["carry"], self._all["policy_key"] = changing
        return {member: actions[member] for member in rows}

    def _together(self, kind: str, rows: Mapping[int, NumpyRows]) -> tuple[np.ndarray, NumpyRows]:
        """Returns which members take part, and the rows of all ``[S, ...]``, others' anyhow."""
        active = np.isin(np.arange(self.amount), list(rows))
        some = next(iter(rows.values()))
        last = self._last.get(kind, dict.fromkeys(range(self.amount), some))
        self._last[kind] = now = last | dict(rows)
        stacked = {key: np.stack([now[i][key] for i in range(self.amount)]) for key in some}
        return active, stacked

    def _announced(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Says that it takes long, the first time."""
        first = what not in self._done
        self._done.add(what)
        return announced(what) if first else contextlib.nullcontext()


_PLACES = {"agent": "state", "key": "key", "policy_key": "policy_key"}
"""Where a fleet keeps what a checkpoint has by these names."""


class FleetLearner:
    """One member's learner; a ``common.run.protocols.Learner``, its tree that of ``AgentLearner``.

    Attributes:
        policy: Acts in the training environments with the newest parameters.
        latent_specs: As of the protocol.
        latents: As of the protocol.
        explores_until: As of the protocol.
    """

    def __init__(self, fleet: Fleet, member: int):
        """Takes its place; ``Fleet.learner`` calls it."""
        self._fleet, self._member = fleet, member
        self.policy = FleetPolicy(fleet, member)
        self.latent_specs: Specs = fleet.latent_specs
        self.latents: Rows = {}
        self.explores_until = fleet.acting.agent.explores_until

    @property
    def params(self) -> Params:
        """Parameters for acting and reporting."""
        return self._fleet.acting.agent.params(self._fleet.get(self._member, "state"))

    @property
    def where(self) -> str:
        """Says what it learns on."""
        kind = jax.local_devices()[0].device_kind
        return f"{kind}, in one program with {self._fleet.amount - 1} other(s)"

    def place(self, rows: Rows) -> Rows:
        """Returns the rows as they are: those of all members go to the device together."""
        return rows

    def update(self, batch: Rows) -> dict[str, Any]:
        """Makes one update, with those that the others make now."""
        metrics, self.latents = self._fleet.update(self._member, batch)
        return metrics

    def wait(self) -> None:
        """Waits for nothing: updates of a fleet are waited for."""

    def report(self, batch: Rows) -> dict[str, OpenLoop]:
        """Returns what the model imagines of the batch, as NumPy arrays."""
        key = jax.random.fold_in(self._fleet.get(self._member, "key"), 1)
        return jax.device_get(self._fleet.report(self.params, key, batch))

    def evaluation_policy(self, num_envs: int, seed: int) -> AgentPolicy:
        """Returns a policy that takes the mode, with the parameters of now."""
        return AgentPolicy(self._fleet.acting, self.params, num_envs, seed, "eval")

    def tree(self) -> dict[str, Any]:
        """Returns all arrays, for a checkpoint from which a single run goes on as well."""
        return {name: self._fleet.get(self._member, place) for name, place in _PLACES.items()}

    def load(self, tree: dict[str, Any]) -> None:
        """Continues from ``tree``."""
        self._fleet.put(self._member, {place: tree[name] for name, place in _PLACES.items()})


class FleetPolicy:
    """One member's policy in its training environments."""

    def __init__(self, fleet: Fleet, member: int):
        """Begins with empty memory."""
        self._fleet, self._member = fleet, member

    def __call__(self, rows: NumpyRows) -> np.ndarray:
        """Acts on the newest rows ``[N, ...]``, with those of the others."""
        return self._fleet.act(self._member, rows)

    @property
    def latents(self) -> NumpyRows:
        """What the replay keeps of the latent states of the newest rows, by name ``[N, ...]``."""
        carry = self._fleet.get(self._member, "carry")
        return jax.device_get(self._fleet.acting.pack(carry))


def _for_all(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of one member as one of all, over the first axis of its arguments.

    A GPU computes them side by side. A CPU does one after another: side by side they don't fit its
    caches, and take longer.
    """
    if jax.default_backend() == "cpu":
        return lambda *given: jax.lax.map(lambda one: function(*one), given)
    return jax.vmap(function)


def _of_those_active(function: Callable[..., tuple]) -> Callable[..., tuple]:
    """Makes ``(changing, *rest) -> (changed, results)`` one that leaves members out.

    Its first argument says whether this member takes part; else nothing changes, and the results
    are zeros.
    """

    def member(active: jax.Array, changing: Any, *rest: Any) -> tuple:
        go = lambda: function(changing, *rest)  # noqa: E731
        _, results = jax.eval_shape(go)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), results)
        return jax.lax.cond(active, go, lambda: (changing, zeros))

    return member
