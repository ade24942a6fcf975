"""Checkpoints: one folder per step, complete or absent.

``directory/000000001234/`` holds ``tree/`` (the arrays, written by Orbax) and
``checkpoint.json``: the caller's metadata, the path, shape and type of every leaf, size and
CRC-32 of every other file, and the CRC-32 of all that, so that a checkpoint that was cut short
or changed is noticed before it is used. Nothing is pickled.

A folder gets its name when it is complete and on the disk. Until then it is called
``.saving-000000001234``; where a kill came between the two, it counts all the same. Names that
are given up begin with a dot as well, so that no half of a checkpoint has a name.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import warnings
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from common.errors import UserError
from common.files import cannot_write, keep_on_disk

Tree = TypeVar("Tree")

_ARRAYS = "tree"
_INDEX = "checkpoint.json"
_UNSUMMED = {"metadata", "leaves", "files"}
"""Entries of an index of version 0.1, which had no sum of its own."""
_HIDDEN = re.compile(r"\.saving-(\d+)(-old)?")


class _Damaged(UserError):
    """A checkpoint is not what was written; says how."""


def save(
    directory: pathlib.Path, step: int, tree: Any, metadata: Mapping[str, Any], keep: int
) -> pathlib.Path:
    """Writes a checkpoint and removes all but the newest.

    Damaged checkpoints of later steps, over which a run went back to an older one, go too.

    Args:
        directory: Folder of the checkpoints, made if missing.
        step: Number of the checkpoint; one of the same number is replaced.
        tree: Any pytree of JAX and NumPy arrays, typed PRNG keys and Python numbers.
        metadata: What JSON can hold.
        keep: Number of checkpoints to keep, at least 1.

    Returns:
        The folder of this checkpoint.

    Raises:
        common.files.WriteError: It could not be written; the checkpoints that were there remain.
    """
    directory = pathlib.Path(directory).absolute()
    target = directory / f"{step:012d}"
    temporary = directory / f".saving-{step:012d}"
    index = {"metadata": metadata, "leaves": _describe(tree), "files": {}}
    index = json.loads(json.dumps(index))  # A mistake of the caller shows before any file.
    values = [np.asarray(value) for value in _plain_leaves(tree)]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _tidy(directory)
        temporary.mkdir()
        _write_arrays(temporary / _ARRAYS, values)
        index["files"] = _checksums(temporary)
        index["sum"] = _sum(index)
        (temporary / _INDEX).write_text(json.dumps(index, indent=1) + "\n")
        for path in (*temporary.rglob("*"), temporary):
            keep_on_disk(path)
        _swap(temporary, target)
        for path in (directory, directory.parent):
            keep_on_disk(path)
    except Exception as error:  # Orbax raises what its storage layers raise.
        shutil.rmtree(temporary, ignore_errors=True)
        raise cannot_write(f"the checkpoint {target}", error) from error
    folders = _folders(directory)
    spoilt = [number for number in folders if number > step and not _is_whole(folders[number])]
    kept = [number for number in folders if number not in spoilt]
    for number in (*spoilt, *kept[:-keep]):
        _remove(folders[number])
    return target


def steps(directory: pathlib.Path) -> list[int]:
    """Returns the step of every checkpoint, from the oldest to the newest."""
    return list(_folders(pathlib.Path(directory)))


def latest(directory: pathlib.Path) -> int | None:
    """Returns the step of the newest checkpoint; None without any."""
    return max(steps(directory), default=None)


def metadata(directory: pathlib.Path) -> dict[str, Any] | None:
    """Returns what the caller said of the newest checkpoint that says it, without its arrays.

    Returns:
        The metadata; None without a checkpoint, or where none can be read.
    """
    for folder in reversed(_folders(pathlib.Path(directory)).values()):
        with contextlib.suppress(_Damaged):
            return _read_index(folder)["metadata"]
    return None


def restore(
    directory: pathlib.Path,
    like: Tree,
    step: int | None = None,
    renamed: Callable[[str], str | None] = lambda path: path,
) -> tuple[Tree, dict[str, Any]]:
    """Reads a checkpoint into the structure of ``like``.

    Args:
        directory: Folder of the checkpoints.
        like: Tree of the same structure, shapes and types; its arrays may be
            ``jax.ShapeDtypeStruct``. JAX arrays return with the sharding of ``like``,
            NumPy arrays and Python numbers as such.
        step: Which checkpoint. By default the newest; where that is damaged, the one before,
            after a warning.
        renamed: ``(path) -> path`` of a stored leaf under its name of today; None leaves it
            out. For checkpoints of older versions.

    Returns:
        The tree and the metadata.

    Raises:
        UserError: No such checkpoint, only damaged ones, or one of another structure.
    """
    folders = _folders(pathlib.Path(directory).absolute())
    if not folders or (step is not None and step not in folders):
        there = f"; there are {', '.join(map(str, folders))}" if folders else "; none is there"
        which = "" if step is None else f" {step}"
        raise UserError(f"no checkpoint{which} in {pathlib.Path(directory).absolute()}{there}")
    wanted = sorted(folders, reverse=True) if step is None else [step]
    newest = None
    for number in wanted:
        try:
            found = _restore(folders[number], like, renamed)
        except _Damaged as error:
            newest = newest or f"checkpoint {folders[number]} is damaged ({error})"
            continue
        if newest:
            warnings.warn(f"{newest}; that of step {number} is used", stacklevel=2)
        return found
    remedy = "start anew" if len(wanted) == len(folders) else "use the others"
    raise UserError(f"{newest}; delete that folder to {remedy}, or copy it again")


def _restore(
    folder: pathlib.Path, like: Tree, renamed: Callable[[str], str | None]
) -> tuple[Tree, dict[str, Any]]:
    index = _checked_index(folder)
    stored = {renamed(entry["path"]): i for i, entry in enumerate(index["leaves"])}
    stored.pop(None, None)
    wanted = _describe(like)
    _check_structure(folder, {path: index["leaves"][i] for path, i in stored.items()}, wanted)
    try:
        values = _read_arrays(folder / _ARRAYS, index["leaves"])
    except Exception as error:  # Orbax raises what its storage layers raise.
        raise _Damaged(type(error).__name__) from error
    leaves, structure = jax.tree.flatten(like)
    places = [stored[entry["path"]] for entry in wanted]
    pairs = zip(places, leaves, strict=True)
    restored = [_like(values[i], leaf, index["leaves"][i]) for i, leaf in pairs]
    return jax.tree.unflatten(structure, restored), index["metadata"]


def _folders(directory: pathlib.Path) -> dict[int, pathlib.Path]:
    """Returns the folder of every checkpoint by its step, from the oldest to the newest.

    One whose writer was killed before it got its name counts where it is whole, and so does
    one that had to make room for it.
    """
    if not directory.is_dir():
        return {}
    found, hidden = {}, []
    for path in directory.iterdir():
        if path.name.isdecimal():
            found[int(path.name)] = path
        elif match := _HIDDEN.fullmatch(path.name):
            hidden.append((bool(match[2]), int(match[1]), path))
    for _, step, path in sorted(hidden):
        if step not in found and _is_whole(path):
            found[step] = path
    return dict(sorted(found.items()))


def _is_whole(folder: pathlib.Path) -> bool:
    try:
        _checked_index(folder)
    except _Damaged:
        return False
    return True


def _tidy(directory: pathlib.Path) -> None:
    """Gives whole checkpoints the names that a kill kept from them; removes what it left."""
    for step, folder in _folders(directory).items():
        if not folder.name.isdecimal():
            os.rename(folder, directory / f"{step:012d}")
    for leftover in (*directory.glob(".saving-*"), *directory.glob(".removing-*")):
        shutil.rmtree(leftover)


def _remove(folder: pathlib.Path) -> None:
    """Takes the name away first: a kill leaves no half of a checkpoint under it."""
    aside = folder.with_name(f".removing-{folder.name}")
    with contextlib.suppress(OSError):
        os.rename(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain_leaves(tree: Any) -> list[Any]:
    """Returns the leaves with typed keys as their integers."""
    leaves = jax.tree.leaves(tree)
    return [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in leaves]


def _describe(tree: Any) -> list[dict[str, Any]]:
    """Returns path, shape and type of every leaf; the type of a key names its generator."""
    entries = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        value = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        name = jax.tree_util.keystr(path)
        entries.append({"path": name, "shape": list(value.shape), "dtype": str(value.dtype)})
        if isinstance(leaf, jax.Array) and _is_key(leaf):
            entries[-1]["key"] = str(jax.random.key_impl(leaf))
    return entries


def _checkpointer() -> Any:
    # Orbax takes a while to import; only who saves or restores pays for it.
    import orbax.checkpoint

    # Of several processes each saves and restores for itself: what one has, all have.
    me = jax.process_index()
    alone = orbax.checkpoint.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=str(me)
    )
    handler = orbax.checkpoint.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return orbax.checkpoint.Checkpointer(handler, multiprocessing_options=alone)


def _write_arrays(path: pathlib.Path, values: list[np.ndarray]) -> None:
    """Writes the arrays under numbers; empty ones follow from their description."""
    named = {f"{i:05d}": value for i, value in enumerate(values) if value.size}
    if named:
        with _checkpointer() as checkpointer:
            checkpointer.save(path, named)


def _read_arrays(path: pathlib.Path, entries: list[dict[str, Any]]) -> list[np.ndarray]:
    import orbax.checkpoint

    empty = [0 in entry["shape"] for entry in entries]
    named: dict[str, Any] = {}
    if not all(empty):
        keys = [f"{i:05d}" for i in range(len(entries)) if not empty[i]]
        arguments = orbax.checkpoint.RestoreArgs(restore_type=np.ndarray)
        with _checkpointer() as checkpointer:
            named = checkpointer.restore(path, restore_args=dict.fromkeys(keys, arguments))
    return [
        np.empty(entry["shape"]) if empty[i] else np.asarray(named[f"{i:05d}"])
        for i, entry in enumerate(entries)
    ]


def _like(value: np.ndarray, leaf: Any, entry: Mapping[str, Any]) -> Any:
    """Returns ``value`` as the same kind of object as ``leaf``."""
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(value, jnp.uint32), impl=entry["key"])
    if isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)):
        sharding = leaf.sharding
        if sharding is not None and len(sharding.device_set) > 1:
            return jax.device_put(value.astype(leaf.dtype), sharding)
        return jnp.asarray(value, leaf.dtype)
    if isinstance(leaf, np.ndarray):
        return np.array(value, leaf.dtype)
    return type(leaf)(value.item())


def _sum(index: Mapping[str, Any]) -> int:
    """Returns the CRC-32 of everything in an index but itself."""
    rest = {key: value for key, value in index.items() if key != "sum"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def _read_index(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the JSON part, which is what was written.

    Raises:
        _Damaged: It is not, or it cannot be read.
    """
    try:
        index = json.loads((folder / _INDEX).read_bytes())
        known = isinstance(index["metadata"], dict)
        right = known and (index.keys() <= _UNSUMMED or index["sum"] == _sum(index))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _Damaged(f"{_INDEX} cannot be read") from error
    if not right:
        raise _Damaged(f"{_INDEX} is not what was written")
    return index


def _is_leaf(entry: Any) -> bool:
    types = {"path": str, "shape": list, "dtype": str}
    return isinstance(entry, dict) and all(isinstance(entry.get(k), types[k]) for k in types)


def _checked_index(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the JSON part after comparing every other file with its size and sum.

    Raises:
        _Damaged: A file is missing, or not what was written.
    """
    index = _read_index(folder)
    try:
        found = _checksums(folder)
        expected, leaves = dict(index["files"]), list(index["leaves"])
    except (OSError, TypeError, ValueError, KeyError) as error:
        raise _Damaged(f"{_INDEX} or what it names cannot be read") from error
    if not all(map(_is_leaf, leaves)):
        raise _Damaged(f"{_INDEX} is not what was written")
    for name, sums in expected.items():
        if name not in found:
            raise _Damaged(f"{name} is missing")
        if found[name] != sums:
            raise _Damaged(f"{name} is not what was written")
    return index


def _check_structure(
    folder: pathlib.Path, stored: Mapping[str, dict[str, Any]], wanted: list[dict[str, Any]]
) -> None:
    remedy = "use the configuration of that run, or another logdir"
    wanted_paths = {entry["path"]: entry for entry in wanted}
    for path, entry in wanted_paths.items():
        if path not in stored:
            raise UserError(f"checkpoint {folder} has no {path}; {remedy}")
        other = stored[path]
        if (entry["shape"], entry["dtype"]) != (other["shape"], other["dtype"]):
            raise UserError(
                f"checkpoint {folder} holds {path} as {other['dtype']}{other['shape']}, this "
                f"configuration has {entry['dtype']}{entry['shape']}; {remedy}"
            )
    for path in stored:
        if path not in wanted_paths:
            raise UserError(f"checkpoint {folder} has {path}, which is not expected; {remedy}")


def _checksums(folder: pathlib.Path) -> dict[str, list[int]]:
    """Returns ``{name: [bytes, CRC-32]}`` of the files below, without the index itself."""
    sums = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != _INDEX:
            content = path.read_bytes()
            sums[name] = [len(content), zlib.crc32(content)]
    return sums


def _swap(source: pathlib.Path, target: pathlib.Path) -> None:
    """Gives the complete folder its name; one of that name makes room at the last moment."""
    aside = target.with_name(f".saving-{target.name}-old")
    if target.exists():
        os.rename(target, aside)
    os.rename(source, target)
    shutil.rmtree(aside, ignore_errors=True)
