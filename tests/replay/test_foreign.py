"""Episodes of others: what differs from the rows of a task is all said at once."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from common.errors import UserError
from common.replay.chunks import FOREIGN, ChunkFile
from common.replay.foreign import check_episode, check_episodes
from common.spaces import ActionPart, ActionSpec

SPECS = {
    "image": ((32, 32, 3), np.uint8),
    "vector": ((3,), np.float32),
    "action": ((2,), np.float32),
    "reward": ((), np.float32),
    "is_first": ((), bool),
    "is_last": ((), bool),
    "is_terminal": ((), bool),
}
ROWS = 6


def good(rows=ROWS):
    """Rows as the task has them."""
    steps = np.arange(rows)
    arrays = {key: np.zeros((rows, *shape), dtype) for key, (shape, dtype) in SPECS.items()}
    return arrays | {"is_first": steps == 0, "is_last": steps == rows - 1}


def message(arrays, **options):
    """The one line that refuses the rows."""
    with pytest.raises(UserError) as caught:
        check_episode(arrays, SPECS, "data/7.npz", **options)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("data/7.npz differs")
    return str(caught.value)


def with_value(key, row, value):
    """Good rows with one wrong value."""
    arrays = good()
    arrays[key].reshape(ROWS, -1)[row, -1] = value
    return {key: arrays[key]}


WRONG = {
    "no key": ({"vector": None}, "no 'vector' (record it, or choose environment options"),
    "no flag": ({"is_first": None}, "no 'is_first' (make it: numpy.arange(T) == 0"),
    "float64": ({"reward": np.zeros(ROWS)}, "'reward' is float64, expected float32 "
                "(reward.astype(numpy.float32))"),
    "column": ({"reward": np.zeros((ROWS, 1), np.float32)}, "reward.reshape(len(reward))"),
    "one entry in all": ({"reward": np.float32(1)}, "'reward' is a single number"),
    "flag of numbers": ({"is_last": np.arange(ROWS) // 5}, "is_last.astype(bool)"),
    "channels first": ({"image": np.zeros((ROWS, 3, 32, 32), np.uint8)},
                       "channels last: image.transpose(0, 2, 3, 1)"),
    "other size": ({"image": np.zeros((ROWS, 64, 64, 3), np.uint8)}, "resize every picture to 32x"),
    "other task": ({"vector": np.zeros((ROWS, 4), np.float32)}, "'vector' has the shape (4,) in a "
                   "row, expected (3,) (it is of another task"),
    "float image": ({"image": np.ones((ROWS, 32, 32, 3), np.float32)},
                    "((255 * image).round().astype(numpy.uint8))"),
    "float image of 255": ({"image": np.full((ROWS, 32, 32, 3), 200.0)},
                           "(image.round().astype(numpy.uint8))"),
    "choices": ({"action": np.arange(ROWS) % 2}, "numpy.eye(2, dtype=numpy.float32)[action]"),
    "text": ({"vector": np.full((ROWS, 3), "x")}, "'vector' is <U1, expected float32 (numbers"),
    "NaN": (with_value("vector", 4, np.nan), "'vector' is nan in row 4"),
    "infinity": (with_value("reward", 2, -np.inf), "'reward' is -inf in row 2"),
    "beyond float32": ({"reward": np.full(ROWS, 1e300)}, "'reward' is 1e+300 in row 0 and 5 rows"),
    "large action": (with_value("action", 3, -2), "'action' reaches from -2 to 0, expected -1 to 1 "
                     "(scale it by the bounds of the action space: 2 * (action - low)"),
    "no first row": ({"is_first": np.zeros(ROWS, bool)}, "'is_first' marks no row"),
    "late first row": ({"is_first": np.arange(ROWS) == 2}, "'is_first' does not mark row 0"),
    "terminal inside": ({"is_terminal": np.arange(ROWS) == 2}, "'is_terminal' marks row 2 and "),
    "last inside": ({"is_last": np.arange(ROWS) == 2}, "'is_last' marks row 2, and 'is_first' not"),
    "rows missing": ({key: value[1:] for key, value in good().items() if key != "vector"},
                     "different numbers of rows ('image' has 5, 'vector' has 6, 'action' has 5"),
    "no rows": ({key: value[:0] for key, value in good().items()}, "there are no rows"),
}  # fmt: skip
"""Changes to good rows, None for a key that is missing, and what is said of them."""


def changed(*changes):
    """Good rows with all of the changes."""
    arrays = good()
    for change in changes:
        arrays |= change
    return {key: value for key, value in arrays.items() if value is not None}


@pytest.mark.parametrize("name", WRONG)
def test_every_difference_is_named_with_its_remedy(name):
    change, words = WRONG[name]
    assert words in message(changed(change))


SINGLE = sorted(name for name, (change, _) in WRONG.items() if len(change) == 1)


@hypothesis.given(st.lists(st.sampled_from(SINGLE), min_size=2, max_size=5, unique=True))
@hypothesis.settings(max_examples=80, deadline=None)
def test_all_differences_are_said_at_once(names):
    group = lambda key: "flags" if key.startswith("is_") else key  # noqa: E731
    chosen = {group(next(iter(WRONG[name][0]))): name for name in names}.values()
    said = message(changed(*(WRONG[name][0] for name in chosen)))
    assert all(WRONG[name][1] in said for name in chosen)


def test_what_the_task_has_is_returned_as_it_is():
    rows = good() | {"discount": np.ones(ROWS)}
    rows["action"][1:] = 1 + 1e-6
    taken = check_episode(rows, SPECS, "x")
    assert taken.keys() == SPECS.keys() and all(taken[key] is rows[key] for key in taken)


def test_a_misnamed_array_is_found():
    rows = good()
    rows["actions"], rows["proprio"] = rows.pop("action"), rows.pop("vector")
    said = message(rows)
    assert "no 'vector' (rename 'proprio', if that is it)" in said
    assert "no 'action' (rename 'actions', if that is it)" in said


def test_a_piece_of_a_stream_may_begin_anywhere():
    rows = good() | {"is_first": np.zeros(ROWS, bool)}
    assert check_episode(rows, SPECS, "x", starts=False).keys() == SPECS.keys()


def test_choices_are_one_hot():
    parts = ActionPart((0,), "continuous", 1), ActionPart((1,), "categorical", 1)
    rows = good()
    assert "not one-hot over 1 choices" in message(rows, actions=ActionSpec(parts))
    rows["action"][1:, 1] = 1
    check_episode(rows, SPECS, "x", actions=ActionSpec(parts))
    rows["action"][2, 1] = 0.5
    assert "numpy.eye(1, dtype=numpy.float32)[choice]" in message(rows, actions=ActionSpec(parts))


def test_a_folder_has_one_note_for_all_files(tmp_path):
    file = lambda n: ChunkFile(FOREIGN, FOREIGN, 0, tmp_path / f"{n}.npz")  # noqa: E731
    found = [(file(n), good() | {"discount": np.ones(ROWS)}) for n in range(3)]
    for _, rows in found:
        rows["action"][0] = 0.5
    with pytest.warns(UserWarning) as caught:
        checked = check_episodes(found, SPECS, tmp_path)
    assert [file for file, _ in checked] == [file for file, _ in found]
    assert all(arrays.keys() == SPECS.keys() for _, arrays in checked)
    left_out, odd = (str(one.message) for one in caught)
    assert f"have no 'discount', which files of {tmp_path} hold; they are left out" in left_out
    assert f"{tmp_path / '0.npz'}: 'action' is not 0 in the row of a reset" in odd
    with pytest.raises(UserError, match="no readable file in .*; the warnings above"):
        check_episodes([], SPECS, tmp_path)
    found[1][1]["reward"][3] = np.nan
    with pytest.raises(UserError, match=r"1\.npz differs .*'reward' is nan in row 3"):
        check_episodes(found, SPECS, tmp_path)
