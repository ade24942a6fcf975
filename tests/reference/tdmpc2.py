"""TD-MPC2's losses as loops over windows and steps, in float64.

The world is linear, but for a tanh: weights are arrays by component, and everything that networks
compute is a product with one of them.
"""

from __future__ import annotations

import numpy as np

LOW, HIGH = -3.0, 4.0
"""Outermost bins."""


def both(z, action):
    """What dynamics, rewards and values read."""
    return np.concatenate([z, action])


def two_hot(x, bins):
    """Weights of evenly spaced bins whose mean is the symlog of a number, cut off at the ends."""
    places = np.linspace(LOW, HIGH, bins)
    y = min(max(np.sign(x) * np.log(1 + abs(x)), LOW), HIGH)
    below = max(place for place in range(bins) if places[place] <= y + 1e-12)
    weights = np.zeros(bins)
    if below == bins - 1:
        weights[below] = 1
    else:
        share = (y - places[below]) / (places[below + 1] - places[below])
        weights[below], weights[below + 1] = 1 - share, share
    return weights


def probabilities(logits):
    """Softmax."""
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def cross_entropy(logits, x):
    """Of a number's two-hot weights."""
    return -(two_hot(x, len(logits)) * np.log(probabilities(logits))).sum()


def decode(logits):
    """The number whose symlog is the mean of the bins."""
    y = probabilities(logits) @ np.linspace(LOW, HIGH, len(logits))
    return np.sign(y) * (np.exp(abs(y)) - 1)


def draw(weights, z, noise, low, high):
    """An action and the log-density before the tanh."""
    out = z @ weights["policy"]
    size = len(noise)
    action, density = np.zeros(size), 0.0
    for place in range(size):
        log_std = low + (high - low) * (np.tanh(out[size + place]) + 1) / 2
        action[place] = np.tanh(out[place] + noise[place] * np.exp(log_std))
        density += -(noise[place] ** 2) / 2 - log_std - np.log(2 * np.pi) / 2
    return action, density


def target(weights, target_q, rows, noise, pair, discount, log_stds):
    """Targets ``[H, B]`` of the values: by the worse of two members at the next row."""
    steps, batch = noise.shape[:2]
    result = np.zeros((steps, batch))
    for step in range(steps):
        for window in range(batch):
            z = rows["obs"][window, step + 1] @ weights["encoder"]
            action, _ = draw(weights, z, noise[step, window], *log_stds)
            worst = min(decode(both(z, action) @ target_q[member]) for member in pair)
            if rows["is_terminal"][window, step + 1]:
                worst = 0.0
            result[step, window] = rows["reward"][window, step + 1] + discount * worst
    return result


def rollout(weights, rows, window):
    """States of a window, from its first observation by its actions."""
    states = [rows["obs"][window, 0] @ weights["encoder"]]
    for action in rows["action"][window, 1:]:
        states.append(np.tanh(both(states[-1], action) @ weights["dynamics"]))
    return states


def same_episode(rows, window):
    """Steps of a window before another episode begins."""
    steps = 0
    for first in rows["is_first"][window, 1:]:
        if first:
            break
        steps += 1
    return steps


def model_terms(weights, rows, targets, rho):
    """Each loss of the model, unweighted."""
    batch, length = rows["reward"].shape
    steps = length - 1
    terms = dict.fromkeys(("consistency", "reward", "value", "termination"), 0.0)
    for window in range(batch):
        states = rollout(weights, rows, window)
        for step in range(same_episode(rows, window)):
            share = rho**step / (steps * batch)
            seen = both(states[step], rows["action"][window, step + 1])
            encoded = rows["obs"][window, step + 1] @ weights["encoder"]
            terms["consistency"] += share * np.mean((states[step + 1] - encoded) ** 2)
            reward = rows["reward"][window, step + 1]
            terms["reward"] += share * cross_entropy(seen @ weights["reward"], reward)
            for member in weights["q"]:
                loss = cross_entropy(seen @ member, targets[step, window])
                terms["value"] += share * loss / len(weights["q"])
            chance = 1 / (1 + np.exp(-(states[step + 1] @ weights["termination"])[0]))
            truth = rows["is_terminal"][window, step + 1]
            terms["termination"] -= np.log(chance if truth else 1 - chance) / (steps * batch)
    return terms


def policy_loss(weights, rows, noise, pair, scale, rho, entropy, tau, log_stds):
    """The loss of the policy at the states of a rollout, and the scale behind it."""
    batch, length = rows["reward"].shape
    values, bonus = np.zeros((length, batch)), np.zeros((length, batch))
    for window in range(batch):
        for step, z in enumerate(rollout(weights, rows, window)):
            action, density = draw(weights, z, noise[step, window], *log_stds)
            two = [decode(both(z, action) @ weights["q"][member]) for member in pair]
            values[step, window] = sum(two) / 2
            bonus[step, window] = -entropy * len(action) * density
    spread = np.percentile(values[0], 95) - np.percentile(values[0], 5)
    scale = (1 - tau) * scale + tau * max(1.0, spread)
    loss = 0.0
    for window in range(batch):
        for step in range(1 + same_episode(rows, window)):
            gain = values[step, window] / scale + bonus[step, window]
            loss -= rho**step * gain / (length * batch)
    return loss, scale
