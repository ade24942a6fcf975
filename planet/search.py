"""The search of all planners: draw action sequences, score them, refit the belief.

A planner knows a model only through its ``Rollout``. What tells planners apart is their
``Update``; see ``planet.cem``, ``planet.mppi`` and ``planet.shooting``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from common.errors import UserError
from common.spaces import ActionSpec
from common.types import Array, Key, Params
from planet.beliefs import Belief, draw_noise, initial_belief, sample, to_action


class Future(NamedTuple):
    """What a model says of following action sequences, J of each of N environments.

    Attributes:
        rewards: Of each step ``[N, J, H]``.
        continues: Probability that the episode goes on after each step ``[N, J, H]``; None
            where the model knows of no ends.
        last: The state after the last step ``[N, J, ...]``, for whoever values it; None where
            it can't be told.
        value: Return from there on ``[N, J]``; None for nothing. See ``planet.value``.
    """

    rewards: Array
    continues: Array | None = None
    last: Any = None
    value: Array | None = None

    def returns(self, discount: float | Array = 1.0) -> Array:
        """Sums up what each sequence earns, ``[N, J]``.

            return = sum_{k=1..H} d^(k-1) c_k r_k + d^H c_{H+1} value
            c_1 = 1, c_{k+1} = c_k continues_k

        So the reward of the step that ends an episode counts, and nothing after it does.

        Args:
            discount: d; of each environment ``[N]`` where it is not the same for all.
        """
        chex.assert_rank(self.rewards, 3)
        if jnp.ndim(discount):
            discount = discount[:, None, None]
        horizon = self.rewards.shape[2]
        weights = discount ** jnp.arange(horizon + 1, dtype=self.rewards.dtype)
        if self.continues is not None:
            chex.assert_equal_shape([self.rewards, self.continues])
            first = jnp.ones_like(self.rewards[..., :1])
            reached = jnp.cumprod(jnp.concatenate([first, self.continues], -1), -1)
            weights = weights * reached
        total = (weights[..., :-1] * self.rewards).sum(-1)
        if self.value is None:
            return total
        chex.assert_shape(self.value, total.shape)
        # Where nothing is left of it, a value that is not finite does not count either.
        last = weights[..., -1]
        return total + jnp.where(last > 0, last * self.value, 0)


Rollout = Callable[[Params, Key, Any, Array], Future | Array]
"""(params, key, start [N, ...], actions [N, J, H, A]) -> future.

All that a planner knows of a model. One that has nothing more to tell may give returns [N, J]
instead. Rewards, values and returns may be NaN or infinite: such candidates rank last.
"""

Proposal = Callable[[Params, Key, Any], Array]
"""(params, key, start [N, ...]) -> action sequences [N, P, H, A] to be tried as well."""


class Plan(NamedTuple):
    """What a planner decided.

    Attributes:
        action: Action to take now ``[N, A]``.
        belief: What is left of the search; a warm start shifts it by one step.
        value: Return by which the plan was chosen ``[N]``: of the best candidate, or the
            mean over those that made the plan; -inf where no candidate had a finite one.
    """

    action: Array
    belief: Belief
    value: Array


class Refit(NamedTuple):
    """What an iteration of a planner makes of scored sequences.

    Attributes:
        belief: The next belief.
        weights: What each sequence counted ``[N, J]``, adding up to 1 over J.
    """

    belief: Belief
    weights: Array


Update = Callable[[Belief, Array, Array], Refit]
"""(belief, sequences [N, J, H, A], returns [N, J]) -> refit.

Returns that were not finite are -inf; at least one of each row is finite.
"""


class Noise(NamedTuple):
    """All random numbers of a search in I iterations.

    Attributes:
        sequences: For the candidates ``[I, N, J, H, A]``; see ``beliefs.draw_noise``.
        model: For the rollouts ``[I, ...]``, their keys.
        proposals: Keys of the proposals ``[I]``.
        choice: Gumbel noise over all sequences ``[N, J']``, to draw the action with.
    """

    sequences: Array
    model: Any
    proposals: Array
    choice: Array


class Options(NamedTuple):
    """What all planners have in common; see ``cem.plan``."""

    actions: ActionSpec
    horizon: int
    iterations: int
    candidates: int
    discount: float | Array
    draw: bool
    proposal: Proposal | None
    mask: Array | None = None


def search(
    update: Update,
    rollout: Rollout,
    params: Params,
    key: Key,
    start: Any,
    options: Options,
    belief: Belief | None,
    kept: Proposal | None,
) -> Plan:
    """Draws, scores and refits, again and again: the loop of all planners.

    An environment none of whose candidates has a finite return keeps its belief.

    Args:
        update: How scored sequences change the belief; the others are those of ``cem.plan``.
    """
    actions, horizon, iterations, candidates = options[:4]
    for amount in (horizon, iterations, candidates):
        chex.assert_scalar_positive(amount)
    num_envs = jax.tree.leaves(start)[0].shape[0]
    chex.assert_tree_shape_prefix(start, (num_envs,))
    belief = initial_belief(actions, num_envs, horizon) if belief is None else belief
    keys = jax.vmap(lambda key: jax.random.split(key, 3))(jax.random.split(key, iterations))
    more, once = jnp.zeros((num_envs, 0, horizon, actions.size)), jax.random.fold_in(key, 1)
    if kept is not None:
        more = kept(params, once, start)
        chex.assert_shape(more, (num_envs, None, horizon, actions.size))
    amount = candidates + more.shape[1]
    if options.proposal is not None:
        amount += jax.eval_shape(options.proposal, params, key, start).shape[1]
    shape = num_envs, candidates, horizon
    noise = Noise(
        jax.vmap(lambda key: draw_noise(key, actions, shape))(keys[:, 0]),
        keys[:, 2],
        keys[:, 1],
        jax.random.gumbel(jax.random.fold_in(key, 2), (num_envs, amount)),
    )
    return search_with_noise(update, rollout, params, noise, start, options, belief, more)


def search_with_noise(
    update: Update,
    rollout: Rollout,
    params: Params,
    noise: Noise,
    start: Any,
    options: Options,
    belief: Belief,
    kept: Array,
) -> Plan:
    """Searches with given random numbers, and sequences ``[N, P, H, A]`` tried every time."""
    actions, num_envs = options.actions, belief.mean.shape[0]
    chex.assert_shape(list(belief), (num_envs, options.horizon, actions.size))
    if options.mask is not None:
        chex.assert_shape(options.mask, (num_envs, actions.size))
    belief = _masked(belief, options.mask)

    def iterate(belief: Belief, now: tuple[Array, Any, Array]) -> tuple[Belief, Any]:
        tried = [kept, sample(now[0], belief, actions)]
        if options.proposal is not None:
            more = options.proposal(params, now[2], start)
            chex.assert_shape(more, (num_envs, None, options.horizon, actions.size))
            tried.append(more)
        sequences = _masked(jnp.concatenate(tried, 1), options.mask)
        returns = rollout(params, now[1], start, sequences)
        if isinstance(returns, Future):
            returns = returns.returns(options.discount)
        chex.assert_shape(returns, sequences.shape[:2])
        finite = jnp.isfinite(returns)
        some = finite.any(1)
        ranked = jnp.where(finite, returns, -jnp.inf)
        new, weights = update(belief, sequences, jnp.where(some[:, None], ranked, 0))
        chex.assert_trees_all_equal_shapes(new, belief)
        chex.assert_equal_shape([weights, returns])
        new = _masked(new, options.mask)
        belief = jax.tree.map(lambda x, y: jnp.where(some[:, None, None], x, y), new, belief)
        value = jnp.where(weights > 0, weights * returns, 0).sum(1)
        action = to_action(belief.mean[:, 0], actions)
        if options.draw:
            chosen = (jnp.log(weights) + noise.choice).argmax(1)[:, None, None]
            drawn = jnp.take_along_axis(sequences[:, :, 0], chosen, 1)[:, 0]
            action = jnp.where(some[:, None], drawn, action)
        return belief, (action, jnp.where(some, value, -jnp.inf))

    belief, (action, value) = jax.lax.scan(iterate, belief, noise[:3])
    return Plan(action[-1], belief, value[-1])


def _masked(tree: Any, mask: Array | None) -> Any:
    """Returns arrays ``[N, ..., A]`` that are 0 where the mask ``[N, A]`` is; all without one."""
    if mask is None:
        return tree
    apply = lambda x: x * jnp.expand_dims(mask, tuple(range(1, x.ndim - 1)))  # noqa: E731
    return jax.tree.map(apply, tree)


def among_best(planner: str, option: str, amount: int, returns: Array) -> Array:
    """Tells the best of each environment's candidates, bool ``[N, J]``.

    Args:
        planner: Who asks.
        option: Its option that says how many.
        amount: How many.
        returns: ``[N, J]``.

    Raises:
        UserError: There are not so many.
    """
    num_envs, candidates = returns.shape
    if amount > candidates:
        raise UserError(
            f"{planner} chooses the best {amount} of {candidates} candidates; lower {option}, or "
            "raise candidates"
        )
    _, index = jax.lax.top_k(returns, amount)
    return jnp.zeros(returns.shape, bool).at[jnp.arange(num_envs)[:, None], index].set(True)
