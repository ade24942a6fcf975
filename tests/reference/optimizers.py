"""One optimiser step after the other in float64, written from the update rule."""

from __future__ import annotations

import numpy as np


def run_adam(params, grads, *, lr, eps, clip, weight_decay, beta1, beta2, factor=lambda step: 1):
    """Yields the parameters (a list of arrays) after each step.

    Clip by global norm, multiply the weights by one minus the decay, then Adam with
    epsilon on the uncorrected root. ``grads`` is a list of steps of lists of arrays, ``factor``
    what the learning rate of every step, from 0, is multiplied by.
    """
    params = [np.array(x, np.float64) for x in params]
    mean = [np.zeros_like(x) for x in params]
    square = [np.zeros_like(x) for x in params]
    for t, step in enumerate(grads, 1):
        step = [np.array(g, np.float64) for g in step]
        norm = np.sqrt(sum((g**2).sum() for g in step))
        if clip and norm > clip:
            step = [g * clip / norm for g in step]
        rate = lr * factor(t - 1) * np.sqrt(1 - beta2**t) / (1 - beta1**t)
        for i, g in enumerate(step):
            mean[i] = beta1 * mean[i] + (1 - beta1) * g
            square[i] = beta2 * square[i] + (1 - beta2) * g**2
            params[i] = params[i] * (1 - weight_decay)
            params[i] = params[i] - rate * mean[i] / (np.sqrt(square[i]) + eps)
        yield [x.copy() for x in params]


def run_laprop(params, grads, *, lr, eps, agc, weight_decay, beta1, beta2, nesterov):
    """Yields the parameters after each step of LaProp as DreamerV3 has it.

    Clip every array by its share of the weights, divide by the root of the mean square, average,
    decay arrays of two or more axes by ``weight_decay`` times the learning rate.
    """
    params = [np.array(x, np.float64) for x in params]
    mean = [np.zeros_like(x) for x in params]
    square = [np.zeros_like(x) for x in params]
    for t, step in enumerate(grads, 1):
        for i, g in enumerate(np.array(x, np.float64) for x in step):
            if agc:
                limit = agc * max(1e-3, np.sqrt((params[i] ** 2).sum()))
                g = g / max(1, np.sqrt((g**2).sum()) / limit)
            square[i] = beta2 * square[i] + (1 - beta2) * g**2
            unit = g / (np.sqrt(square[i] / (1 - beta2**t)) + eps)
            mean[i] = beta1 * mean[i] + (1 - beta1) * unit
            ahead = beta1 * mean[i] + (1 - beta1) * unit if nesterov else mean[i]
            decayed = weight_decay * params[i] if params[i].ndim > 1 else 0
            params[i] = params[i] - lr * (ahead / (1 - beta1**t) + decayed)
        yield [x.copy() for x in params]
