"""The log of a run folder."""

from __future__ import annotations

import numpy as np

from common.run.sinks import default_sinks, open_logger


def test_all_sinks_together(tmp_path, capsys):
    logger = open_logger(tmp_path, *default_sinks(tmp_path, 1000))
    logger.write(100, {"time/frames_per_s": 10.0})
    logger.video(100, "eval/policy", np.zeros((3, 64, 48, 3), np.uint8))
    logger.flush()
    logger.close()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"metrics.jsonl", "scores.jsonl", "tensorboard", "videos"}
    assert (tmp_path / "videos" / "eval_policy-000000000100.mp4").stat().st_size > 0
    assert "frames 100 (10.0%)" in capsys.readouterr().out
