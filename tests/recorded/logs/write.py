"""Writes the recorded logs by the libraries of others; see README.md beside this folder.

It needs tensorflow-cpu (2.21.0) and tensorflow-datasets (4.9.10), which the package does not:
``python tests/recorded/logs/write.py`` in an environment that has them.
"""

import pathlib
import shutil
import sys

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "replay" / "logs"))
from made import STEPS, arm, game  # noqa: E402


def out_of_step(values):
    """RLDS: what belongs to the transition out of a step; the last step's means nothing."""
    return np.concatenate([values, np.full_like(values[:1], 1)])


def into_step(values):
    """RL Unplugged: what belongs to the transition into a step; the first step's means nothing."""
    return np.concatenate([np.full_like(values[:1], 1), values])


def flags(steps, terminal):
    rows = np.arange(steps + 1)
    last = rows == steps
    return {"is_first": rows == 0, "is_last": last, "is_terminal": last & terminal}


def write_rlds(name, observation, action, episodes):
    step = {
        "observation": observation, "action": action, "reward": np.float32,
        "discount": np.float32, "is_first": np.bool_, "is_last": np.bool_,
        "is_terminal": np.bool_,
    }  # fmt: skip
    features = tfds.features.FeaturesDict({"steps": tfds.features.Dataset(step)})
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name=""
    )
    info = tfds.core.DatasetInfo(builder=identity, description=name, features=features)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=1)
    writer.initialize_splits(["train"])
    for number, (observations, actions, rewards) in enumerate(episodes):
        parts = {
            "observation": observations, "action": out_of_step(actions),
            "reward": out_of_step(rewards), **flags(len(rewards), number == 1),
        }  # fmt: skip
        parts["discount"] = 1 - parts["is_terminal"].astype(np.float32)
        at = lambda i, parts=parts: tf.nest.map_structure(lambda x: x[i], parts)  # noqa: E731
        steps = [at(i) for i in range(len(rewards) + 1)]
        writer.add_examples({"train": [{"steps": steps}]})
    writer.close_all()
    (folder / "dataset_info.json").unlink(missing_ok=True)


def write_raw(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number in range(len(STEPS)):
        observations, actions, rewards = arm(number)
        discount = np.ones(len(rewards), np.float32)
        discount[-1] = number != 1
        parts = {f"observation:{key}": value for key, value in observations.items()}
        parts |= {
            "action": into_step(actions), "reward": into_step(rewards),
            "discount": into_step(discount),
        }  # fmt: skip
        feature = {
            key: tf.train.Feature(float_list=tf.train.FloatList(value=value.ravel()))
            for key, value in parts.items()
        }
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        path = folder / f"episodes.tfrecord-{number:05d}-of-{len(STEPS):05d}"
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(example.SerializeToString())


body = {
    "height": np.float32,
    "joints": tfds.features.Tensor(shape=(3,), dtype=np.float32),
}
action = tfds.features.Tensor(shape=(2,), dtype=np.float32)
write_rlds("rlds_arm", body, action, map(arm, range(2)))
picture = tfds.features.Image(shape=(32, 32, 3), encoding_format="png")
write_rlds("rlds_game", picture, np.int64, map(game, range(2)))
write_raw("raw_arm")
