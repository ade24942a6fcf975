"""Job lists whose runs are shell scripts, for tests of what surrounds runs."""

from __future__ import annotations

import dataclasses
import json
import pathlib

from benchmarks.jobs import plan as plans
from benchmarks.jobs.plan import Job, Plan

FRAMES = 100
FINISH = """
mkdir -p "$1/checkpoints/000000000100"
echo '{"metadata": {"frames": 100, "finished_frames": 100}}' \
    > "$1/checkpoints/000000000100/checkpoint.json"
touch "$1/report.html"
"""
"""Words of a script that leave a complete run in the folder that is its first argument."""


@dataclasses.dataclass(frozen=True)
class ScriptedPlan(Plan):
    """A job list whose commands run ``script.sh`` with run folder, game and seed."""

    def command(self, job: Job) -> list[str]:
        """Returns the words that run the script."""
        return [
            "sh",
            str(self.logdir / "script.sh"),
            str(self.folder(job)),
            job.game,
            str(job.seed),
        ]


def scripted(logdir: pathlib.Path, script: str = FINISH, games: str = "abc", seeds: int = 1):
    """Writes a job list and its script."""
    jobs = [Job(game, seed, f"task_{game}") for game in games for seed in range(seeds)]
    plan = ScriptedPlan(logdir, "atari", "dreamer", ("debug",), (), FRAMES, tuple(jobs))
    plans.write(plan)
    (logdir / "script.sh").write_text(script)
    return plan


def leave(plan: Plan, job: Job, frames: int, finished: int = 0, speed: float = 0.0) -> None:
    """Writes checkpoint and metrics of a run as the run loop would."""
    folder = plan.folder(job) / "checkpoints" / f"{frames:012d}"
    folder.mkdir(parents=True)
    metadata = {"frames": frames, "finished_frames": finished}
    (folder / "checkpoint.json").write_text(json.dumps({"metadata": metadata}))
    if finished:
        (plan.folder(job) / "report.html").touch()
    line = json.dumps({"frames": frames, "time/frames_per_s": speed})
    (plan.folder(job) / "metrics.jsonl").write_text(f"{line}\n")
