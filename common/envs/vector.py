"""Several environments side by side, restarted where they crash."""

from __future__ import annotations

import numpy as np

from common.envs.base import Crash, Env, adapted_space, check_actions, stack_rows
from common.envs.crew import Crew
from common.envs.group import Build, Description
from common.envs.workers import LocalWorker, Place
from common.errors import UserError


class BuildError(UserError):
    """An environment could not be built.

    Attributes:
        details: The traceback of the environment's own code; empty where there is none.
    """

    def __init__(self, words: str, details: str = ""):
        """Keeps the details."""
        super().__init__(words)
        self.details = details


class VectorEnvs:
    """``N`` environments, in crews that share a worker, as ``common.envs.base.Envs``.

    An environment that crashes is built anew; see ``Crew``. An environment's seed depends on its
    number alone, and so do its rows: not on where it steps, or beside which others.

    Args:
        build: Builds one environment from its seed.
        num_envs: N.
        seed: Seed from which each environment's own is derived.
        place: Where they step; it is left when they are closed.
        fewer: Whether fewer environments will do, but at least one, where not all of them can
            be built; those that can keep their seeds.

    Raises:
        BuildError: An environment cannot be built.
        UserError: One crashes three times without a completed step in between, or ten times
            in fewer than ``SHARE`` steps each; and whatever UserError an environment raises.
    """

    def __init__(self, build: Build, num_envs: int, seed: int, place: Place, fewer: bool = False):
        self._place = place
        self._crews: list[Crew] = []
        self._homes: list[tuple[Crew, int]] = []
        """The crew and the number of each environment."""
        self._parts: list[slice] = []
        """The part of the actions and rows that is each crew's."""
        descriptions: list[Description] = []
        failure: Crash | None = None
        try:
            # All workers start before the first one is waited for.
            for first in range(0, num_envs, place.per_worker):
                indices = range(first, min(first + place.per_worker, num_envs))
                self._crews.append(Crew(place, build, seed, indices))
            for crew in list(self._crews):
                found, why = crew.start()
                failure = why or failure
                if not found:
                    self._crews.remove(crew)
                    crew.worker.close()
                    continue
                self._parts.append(slice(len(descriptions), len(descriptions) + len(found)))
                descriptions += found.values()
                self._homes += [(crew, index) for index in found]
            if failure and not (fewer and descriptions):
                raise BuildError(self._unbuilt(failure), failure.details)
        except BaseException:
            self.close()
            raise
        self.missing = str(failure or "")
        """Why there are fewer environments than asked for; empty where there are not."""
        self.num_envs = len(descriptions)
        (
            self.observation_specs, self.action_spec, self.action_space, self.action_repeat,
            self.max_steps, self.notes,
        ) = descriptions[0]  # fmt: skip
        self.observation_space = adapted_space(self.observation_specs)

    def step_async(self, action: np.ndarray) -> None:
        """Hands the actions ``[N, A]`` over."""
        action = check_actions(action, self.num_envs, self.action_spec.size)
        for crew, part in zip(self._crews, self._parts, strict=True):
            crew.send(action[part])

    def step_wait(self) -> dict[str, np.ndarray]:
        """Returns the rows ``[N, ...]`` of the actions that were handed over."""
        return stack_rows([row for crew in self._crews for row in crew.receive()])

    def step(self, action: np.ndarray) -> dict[str, np.ndarray]:
        """``step_async`` and ``step_wait`` in one call."""
        self.step_async(action)
        return self.step_wait()

    def render(self, index: int = 0) -> np.ndarray | None:
        """Returns one environment's frame ``[H, W, 3]``, or None where it is missing.

        Raises:
            NoPicture: There is one that cannot be filmed.
        """
        crew, number = self._homes[index]
        crew.worker.send("render", number)
        try:
            return crew.worker.receive()
        except Crash:
            return None  # The next step meets the crash again, and mends it.

    def local(self, index: int = 0) -> Env:
        """Returns one of the environments itself; a crash replaces it.

        Raises:
            UserError: It runs elsewhere.
        """
        crew, number = self._homes[index]
        if not isinstance(crew.worker, LocalWorker):
            raise UserError("the environments run in other processes; set --env.workers none")
        return crew.worker.group.env(number)

    def close(self) -> None:
        """Ends all environments."""
        crews, self._crews = self._crews, []
        for crew in crews:
            crew.worker.ask_to_end()
        for crew in crews:
            crew.worker.close()
        self._place.leave()

    def _unbuilt(self, crash: Crash) -> str:
        words = f"the environment could not be built: {crash}"
        if self._homes and isinstance(self._crews[0].worker, LocalWorker):
            words += (
                " (the first one could; where a process can hold only one, set --env.workers "
                "process)"
            )
        return words
