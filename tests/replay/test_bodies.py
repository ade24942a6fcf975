"""Windows of several bodies: how often each is drawn, short episodes, prompts, padding."""

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
from common.tokens.steps import Steps, newest, pad, with_prompt
from tests.compiling import compiled
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


def test_prompts_are_rows_of_another_episode_of_the_same_body():
    bodies, draws = Bodies(make_bodies()), 8000
    steps = bodies.sample(np.random.default_rng(0), draws, LENGTH, prompt=0.25)
    prompted, found = 0, collections.Counter()
    for window in range(draws):
        pieces, filled = parts(steps, window)
        assert filled + sum(piece[3] for piece in pieces) == LENGTH
        if len(pieces) == 1:
            continue
        prompted += 1
        prompt, main = pieces
        # "large" has one episode only, which is its own prompt.
        assert prompt[0] == main[0] and (prompt[1] != main[1]) == (main[0] == 0)
        for piece in pieces:
            assert piece[3] == min(LENGTHS["large" if piece[0] else "small"][piece[1]], 3)
        found[prompt, main] += 1
    np.testing.assert_allclose(prompted / draws, 0.25, atol=0.02)
    # Prompts of the "small" body: an episode, then a window of it, both uniformly.
    first_main = [(p, m, count) for (p, m), count in found.items() if m[:2] == (0, 0)]
    total = sum(count for *_, count in first_main)
    starts = collections.Counter()
    for prompt, _, count in first_main:
        starts[prompt[1], prompt[2]] += count / total
    assert starts.keys() == {(1, 0), *((2, start) for start in range(4))}
    np.testing.assert_allclose(starts[1, 0], 0.5, atol=0.08)
    for start in range(4):
        np.testing.assert_allclose(starts[2, start], 0.125, atol=0.06)


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
    params, loss = random_params(model.init), compiled(model.loss)
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


def test_ranges_enclose_all_data():
    data = make_bodies()
    low, high = Bodies(data).ranges(margin=0.1)
    assert len(low) == len(high) == 5
    # Entries: "a" first; its third number only the large body has, "b" comes behind it there.
    values = collections.defaultdict(list)
    for episode in data["small"] + data["large"]:
        flat = np.concatenate([episode["a"].reshape(len(episode["a"]), -1), episode["b"]], 1)
        for entry, column in enumerate(flat.T):
            values[entry].extend(column)
        values[4].extend(episode["reward"])
    for entry in range(5):
        least, most = min(values[entry]), max(values[entry])
        more = 0.1 * (most - least) or 1.0
        np.testing.assert_allclose([low[entry], high[entry]], [least - more, most + more])
    TDMConfig(tokeniser="uniform", low=low, high=high)


def test_a_batch_takes_little_time():
    """The least of many tries, in the processor's time, which a busy machine hardly changes."""
    episodes = [make_episode(0, number % 50, 99, size=23, actions=6) for number in range(300)]
    bodies, rng = Bodies({"one": episodes[:150], "two": episodes[150:]}), np.random.default_rng(0)
    took = []
    for _ in range(30):
        begin = time.thread_time()
        bodies.sample(rng, 32, 24, prompt=0.25)
        took.append(time.thread_time() - begin)
    assert min(took) < 0.003, min(took)


def test_the_same_seed_draws_the_same_windows():
    bodies = Bodies(make_bodies())
    one, two, other = (
        bodies.sample(np.random.default_rng(seed), 8, LENGTH, prompt=0.5) for seed in (3, 3, 4)
    )
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


def test_windows_for_acting_look_like_those_of_training():
    bodies = Bodies({"one": [make_episode(0, 0, 9)]})
    steps = bodies.sample(np.random.default_rng(0), 2, 9)
    few = Steps(*(x[:, :3] for x in steps[:4]), *steps[4:])
    filled = newest(few, 5)
    np.testing.assert_array_equal(filled.is_first, [[1, 1, 1, 0, 0]] * 2)
    np.testing.assert_array_equal(filled.observation[:, :2], 0)
    np.testing.assert_array_equal(filled.observation[:, 2:], few.observation)
    cut = newest(steps, 5)
    np.testing.assert_array_equal(cut.is_first, [[1, 0, 0, 0, 0]] * 2)
    np.testing.assert_array_equal(cut.action, steps.action[:, -5:])
    assert not steps.is_first[:, 4].any()

    one = jax.tree.map(lambda x: x[:1], steps)
    window = with_prompt(one, few, 8)
    np.testing.assert_array_equal(window.is_first, [[1, 1, 0, 0, 0, 1, 0, 0]] * 2)
    np.testing.assert_array_equal(window.reward[:, 1:5], [steps.reward[0, -4:]] * 2)
    np.testing.assert_array_equal(window.reward[:, 5:], few.reward)
    window = with_prompt(one, steps, 9)
    np.testing.assert_array_equal(window.is_first, [[1, 0, 0, 0, 1, 0, 0, 0, 0]] * 2)
    np.testing.assert_array_equal(window.observation[:, 4:], steps.observation[:, -5:])
    # The longest window is what training draws.
    drawn = bodies.sample(np.random.default_rng(0), 20, 9, prompt=1.0)
    np.testing.assert_array_equal(window.is_first, drawn.is_first[:2])
