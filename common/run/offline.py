"""Learning from episodes that are there already; no step is taken to learn.

The environment of the task says which rows the agent expects, and serves evaluations and
the random policy. The clock of such a run is its updates, so that everything that comes
every so many frames elsewhere comes every so many updates here.
"""

from __future__ import annotations

import pathlib
import time
from typing import Any

from common.errors import UserError
from common.logging import format_seconds
from common.replay import Replay, Windows
from common.rows import row_specs
from common.run import folder as run_folder
from common.run.base import BaseRun
from common.run.clocks import Every
from common.run.recorded import check_repeats, warn_of_challenges


def episode_folders(data: str | pathlib.Path, task: str) -> list[pathlib.Path]:
    """Finds the folders of ``.npz`` files that hold the episodes of a task.

    Args:
        data: A run folder, whose replay is taken; a folder of ``.npz`` files; or a
            collection, ``<data>/<task>/<policy>/*.npz``, of which all policies are taken.
        task: Name of the task, for collections.

    Raises:
        UserError: There are no episodes, or none of this task.
    """
    data = pathlib.Path(data).expanduser()
    for folders in ([data / run_folder.REPLAY], [data], sorted((data / task).glob("*"))):
        found = [folder for folder in folders if any(folder.glob("*.npz"))]
        if found:
            return found
    others = sorted({path.parent.parent.name for path in data.glob("*/*/*.npz")})
    if others:
        raise UserError(f"{data} holds no episodes of {task}, but of {', '.join(others)}")
    raise UserError(
        f"no episodes in {data}; expected a run folder, a folder of .npz files, or a collection "
        "<task>/<policy>/*.npz; logs of other programs become such a folder by 'import'"
    )


class OfflineRun(BaseRun):
    """A run that learns from ``config.run.data``, which stays as it is."""

    CLOCK = "updates"

    def _open(self, earlier: dict[str, Any]) -> None:
        """Reads the episodes and opens the log.

        Raises:
            UserError: The episodes are missing, too short, too many for the memory, of
                another task, or hold numbers that are not finite.
        """
        config = self._config
        if self._learner.latent_specs:
            raise UserError(
                "run.data holds no latent states of this agent; set replay.latents false, or "
                "--replay.burn_in 5"
            )
        envs, costs = self._envs, config.env.counts_cost
        specs = row_specs(envs.observation_specs, envs.action_spec, costs)
        self._replay = Replay(config.replay, None, specs, 1, config.seed)
        folders = episode_folders(config.run.data, config.task)
        check_repeats(folders, self._envs.action_repeat)
        warn_of_challenges(folders, config.env.challenge)
        for folder in folders:
            self._replay.read(folder, self._envs.action_spec, leave_out=True)
        if not self._replay.can_sample(config.replay.window):
            least, rows = config.replay.minimum, f"{config.replay.window} rows in sequence"
            fault = f"holds no {rows}; lower replay.length"
            if least > 1:
                fault = f"holds {rows} fewer than {least:,} times; lower replay.minimum or length"
            raise UserError(f"{config.run.data} {fault}")
        if earlier:
            self._replay.load_state(earlier["replay"])
        self._take_folder()
        self._open_log(earlier)
        self._begin = time.monotonic(), self.updates

    def _loop(self) -> None:
        schedule = self._schedule
        log = Every(schedule.log_every, self.updates)
        evaluation = Every(schedule.eval_every, self.updates)
        filming = Every(schedule.report_every, self.updates)
        while self.updates < schedule.updates and not self._ending.now:
            self._learn()
            if filming.due(self.updates) and schedule.video:
                self._report()
            if evaluation.due(self.updates) and self.updates < schedule.updates:
                self._evaluate()
            if log.due(self.updates) or self.updates == schedule.updates:
                metrics = self._meter.take(0, self.updates)
                del metrics["time/frames_per_s"]
                self._log(metrics)
            if self._save_due:
                self._save()

    def _draw(self) -> Windows:
        """Draws the rows of all processes, as each of them does, and takes its own."""
        replay, processes = self._config.replay, self._processes
        whole = self._replay.draw(replay.batch, replay.window)
        return whole.part(processes.index, processes.amount)

    def _progress(self) -> str:
        begin, before = self._begin
        left = self._schedule.updates - self.updates
        seconds = (time.monotonic() - begin) / max(self.updates - before, 1) * left
        length = self._schedule.updates
        return f"at update {self.updates:,} of {length:,}, {format_seconds(seconds)} left"

    def _metadata(self) -> dict[str, Any]:
        return {}

    def _plan(self) -> str:
        replay = self._config.replay
        return (
            f"{self._schedule.updates:,} updates of {replay.batch}x{replay.length} rows from "
            f"{self._replay.episodes:,} episodes, {len(self._replay):,} rows, of "
            f"{self._config.run.data}"
        )
