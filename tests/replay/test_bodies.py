"""Windows of several bodies: how often each is drawn, short episodes, padding."""

from __future__ import annotations

import collections
import time

import jax
import numpy as np
import pytest

from common.errors import UserError
from common.replay.bodies import Bodies
from common.tokens import tdm
from common.tokens.config import TDMConfig
from common.tokens.steps import Steps, pad
from tests.tiny import random_params

LENGTH = 6


def make_episode(body, episode, rows, size=1, actions=1):
    """Rows whose observation "b" names them: body, episode and row."""
    is_first = np.arange(rows) == 0
    name = 10_000 * body + 100 * episode + np.arange(rows)
    reward = np.where(is_first, 0, name + 0.5)
    return {
        "b": name[:, None].astype(np.float32),
        "a": np.full((rows, size, 1), -7.0, np.float32) * (1 + np.arange(size)[:, None]),
        "action": np.where(is_first, 0, 0.5 / actions)[:, None].repeat(actions, 1),
        "reward": reward.astype(np.float32),
        "is_first": is_first,
        "is_last": np.arange(rows) == rows - 1,
        "is_terminal": np.zeros(rows, bool),
    }


LENGTHS = {"small": (9, 2, 6), "large": (7,)}
SIZES = {"small": (1, 1), "large": (3, 2)}


def make_bodies():
    return {
        name: [
            make_episode(body, number, rows, *SIZES[name]) for number, rows in enumerate(lengths)
        ]
        for body, (name, lengths) in enumerate(LENGTHS.items())
    }


def parts(steps, window):
    """(body, episode, first row, rows) of each piece of a window, and its filled rows."""
    body = int(steps.has_observation[window].all())
    names = steps.observation[window, :, SIZES["large" if body else "small"][0]].astype(int)
    first = steps.is_first[window]
    # Filled rows are whole episodes of one row, all zeros; a piece starts behind each of them.
    bounds = [*np.flatnonzero(first), len(first)]
    pieces, filled = [], 0
    for begin, end in zip(bounds, bounds[1:], strict=False):
        if not steps.observation[window, begin].any():
            assert end == begin + 1 and not pieces and not steps.reward[window, begin]
            filled += 1
            continue
        np.testing.assert_array_equal(names[begin:end], names[begin] + np.arange(end - begin))
        pieces.append((names[begin] // 10_000, names[begin] // 100 % 100, names[begin] % 100))
        pieces[-1] += (end - begin,)
        assert pieces[-1][0] == body
    return pieces, filled


def test_bodies_and_their_windows_are_drawn_uniformly():
    """Against a list of every window: the probability of each is known."""
    bodies, draws = Bodies(make_bodies()), 40_000
    assert (bodies.observation_size, bodies.action_size) == (4, 2)
    steps = bodies.sample(np.random.default_rng(0), draws, LENGTH)
    found = collections.Counter()
    for window in range(draws):
        (piece,), filled = parts(steps, window)
        assert filled + piece[3] == LENGTH
        found[piece] += 1
    expected = {}
    for body, lengths in enumerate(LENGTHS.values()):
        windows = []
        for episode, rows in enumerate(lengths):
            if rows < LENGTH:
                windows.append((body, episode, 0, rows))
            for start in range(rows - LENGTH + 1):
                windows.append((body, episode, start, LENGTH))
        expected |= dict.fromkeys(windows, 1 / len(LENGTHS) / len(windows))
    assert found.keys() == expected.keys()
    for window, probability in expected.items():
        deviation = (probability * (1 - probability) / draws) ** 0.5
        assert abs(found[window] / draws - probability) < 4 * deviation, window


def test_padding_equals_that_of_the_model():
    data = make_bodies()
    bodies = Bodies(data)
    steps = bodies.sample(np.random.default_rng(1), 64, 7)
    for name, size in (("small", False), ("large", True)):
        episode = {key: value[None, :7] for key, value in data[name][0].items()}
        want = pad(episode, bodies.observation_size, bodies.action_size)
        same = (steps.observation == np.asarray(want.observation)).all((1, 2))
        assert same.any() and (steps.has_observation.all(1)[same] == size).all()
        for got, expected in zip(steps, want, strict=True):
            np.testing.assert_array_equal(got[same], np.repeat(expected, same.sum(), 0))
            assert got.dtype == expected.dtype


def test_filled_rows_do_not_count_in_the_loss():
    """What they hold changes no loss of the dynamics, and neither does leaving them out."""
    config = TDMConfig(bins=8, context=LENGTH, layers=1, heads=1, width=8, units=8)
    model = tdm.functions(config, 4, 2)
    params, loss = random_params(model.init), jax.jit(model.loss)
    bodies = Bodies({**make_bodies(), "small": [make_episode(0, 0, 3), make_episode(0, 1, 3)]})
    steps = bodies.sample(np.random.default_rng(0), 16, LENGTH)
    short = jax.tree.map(lambda x: x[~steps.has_observation.all(1)], steps)
    filled = short._replace(observation=short.observation.copy(), reward=short.reward.copy())
    filled.observation[:, :3] = 3
    filled.reward[:, :3] = 2
    alone = Steps(*(x[:, 3:] for x in short[:4]), *short[4:])
    np.testing.assert_allclose(loss(params, short)[0], loss(params, filled)[0])
    np.testing.assert_allclose(loss(params, short)[0], loss(params, alone)[0], rtol=1e-5)
    assert loss(params, short)[0] > 1


def test_a_batch_takes_little_time():
    """The least of many tries, in the processor's time, which a busy machine hardly changes."""
    episodes = [make_episode(0, number % 50, 99, size=23, actions=6) for number in range(300)]
    bodies, rng = Bodies({"one": episodes[:150], "two": episodes[150:]}), np.random.default_rng(0)
    took = []
    for _ in range(30):
        begin = time.thread_time()
        bodies.sample(rng, 32, 24)
        took.append(time.thread_time() - begin)
    assert min(took) < 0.003, min(took)


def test_the_same_seed_draws_the_same_windows():
    bodies = Bodies(make_bodies())
    one, two, other = (bodies.sample(np.random.default_rng(seed), 8, LENGTH) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.observation, two.observation)
    assert (one.observation != other.observation).any()


def test_data_that_cannot_be_used_are_refused():
    with pytest.raises(UserError, match="no episodes of any body"):
        Bodies({})
    with pytest.raises(UserError, match="no episodes of large"):
        Bodies({**make_bodies(), "large": []})
    episode = make_episode(0, 0, 3)
    pictures = episode | {"image": np.zeros((3, 4, 4, 3), np.uint8)}
    with pytest.raises(UserError, match="episodes of small have pictures, 'image'"):
        Bodies({"small": [pictures]})
    none = {key: value for key, value in episode.items() if key not in ("a", "b")}
    with pytest.raises(UserError, match="episodes of small have no observations"):
        Bodies({"small": [none]})
