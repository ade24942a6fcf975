"""Checkpoints: one folder per step, complete or absent.

``directory/000000001234/`` holds ``tree/`` (the arrays, written by Orbax) and
``checkpoint.json``: the caller's metadata, the path, shape and type of every leaf, and
size and CRC-32 of every file, so that a checkpoint that was cut short is noticed before
it is used. A folder gets its name when it is complete. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from common.errors import UserError

Tree = TypeVar("Tree")

_ARRAYS = "tree"
_INDEX = "checkpoint.json"


def save(
    directory: pathlib.Path, step: int, tree: Any, metadata: Mapping[str, Any], keep: int
) -> pathlib.Path:
    """Writes a checkpoint and removes all but the newest.

    Args:
        directory: Folder of the checkpoints, made if missing.
        step: Number of the checkpoint; one of the same number is replaced.
        tree: Any pytree of JAX and NumPy arrays, typed PRNG keys and Python numbers.
        metadata: What JSON can hold.
        keep: Number of checkpoints to keep, at least 1.

    Returns:
        The folder of this checkpoint.

    Raises:
        UserError: It could not be written; the checkpoints that were there remain.
    """
    directory = pathlib.Path(directory).absolute()
    target = directory / f"{step:012d}"
    temporary = directory / f".saving-{step:012d}"
    index = {"metadata": metadata, "leaves": _describe(tree), "files": {}}
    json.dumps(index)  # A mistake of the caller shows before anything is written.
    values = [np.asarray(value) for value in _plain_leaves(tree)]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.glob(".saving-*"):
            shutil.rmtree(leftover)
        temporary.mkdir()
        _write_arrays(temporary / _ARRAYS, values)
        index["files"] = _checksums(temporary)
        (temporary / _INDEX).write_text(json.dumps(index, indent=1) + "\n")
        _swap(temporary, target)
    except Exception as error:  # Orbax raises what its storage layers raise.
        shutil.rmtree(temporary, ignore_errors=True)
        reason = str(getattr(error, "strerror", None) or error).splitlines()[0]
        raise UserError(
            f"cannot write the checkpoint {target}: {reason}; free space on the disk, or "
            "choose another logdir"
        ) from error
    for old in _steps(directory)[:-keep]:
        shutil.rmtree(directory / f"{old:012d}", ignore_errors=True)
    return target


def latest(directory: pathlib.Path) -> int | None:
    """Returns the step of the newest checkpoint; None without any."""
    steps = _steps(pathlib.Path(directory))
    return steps[-1] if steps else None


def metadata(directory: pathlib.Path) -> dict[str, Any] | None:
    """Returns what the caller said of the newest checkpoint, without its arrays.

    Returns:
        The metadata; None without a checkpoint, or with one that cannot be read.
    """
    steps = _steps(pathlib.Path(directory))
    try:
        index = json.loads((directory / f"{steps[-1]:012d}" / _INDEX).read_text())
        return index["metadata"]
    except (IndexError, OSError, ValueError, KeyError):
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
        step: Which checkpoint; the newest by default.
        renamed: ``(path) -> path`` of a stored leaf under its name of today; None leaves it
            out. For checkpoints of older versions.

    Returns:
        The tree and the metadata.

    Raises:
        UserError: No such checkpoint, a damaged one, or one of another structure.
    """
    directory = pathlib.Path(directory).absolute()
    steps = _steps(directory)
    if not steps or (step is not None and step not in steps):
        there = f"; there are {', '.join(map(str, steps))}" if steps else "; none is there"
        which = "" if step is None else f" {step}"
        raise UserError(f"no checkpoint{which} in {directory}{there}")
    folder = directory / f"{steps[-1] if step is None else step:012d}"
    index = _read_index(folder)
    stored = {renamed(entry["path"]): i for i, entry in enumerate(index["leaves"])}
    stored.pop(None, None)
    wanted = _describe(like)
    _check_structure(folder, {path: index["leaves"][i] for path, i in stored.items()}, wanted)
    try:
        values = _read_arrays(folder / _ARRAYS, index["leaves"])
    except Exception as error:  # Orbax raises what its storage layers raise.
        raise _damaged(folder, type(error).__name__) from error
    leaves, structure = jax.tree.flatten(like)
    places = [stored[entry["path"]] for entry in wanted]
    pairs = zip(places, leaves, strict=True)
    restored = [_like(values[i], leaf, index["leaves"][i]) for i, leaf in pairs]
    return jax.tree.unflatten(structure, restored), index["metadata"]


def _steps(directory: pathlib.Path) -> list[int]:
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


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

    return orbax.checkpoint.Checkpointer(orbax.checkpoint.PyTreeCheckpointHandler())


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


def _read_index(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the JSON part after comparing every file with its size and checksum."""
    try:
        index = json.loads((folder / _INDEX).read_text())
        files = index["files"]
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(folder, f"{_INDEX} cannot be read") from error
    found = _checksums(folder)
    for name, expected in files.items():
        if name not in found:
            raise _damaged(folder, f"{name} is missing")
        if found[name] != expected:
            raise _damaged(folder, f"{name} is not what was written")
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


def _damaged(folder: pathlib.Path, reason: str) -> UserError:
    older = [step for step in _steps(folder.parent) if step < int(folder.name)]
    remedy = f"continue from step {older[-1]}" if older else "start anew, or copy it again"
    return UserError(f"checkpoint {folder} is damaged ({reason}); delete that folder to {remedy}")


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
