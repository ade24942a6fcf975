"""The DeepMind Control Suite as rows, from pixels, from state or from both."""

from __future__ import annotations

import math
import warnings
from typing import Any

import gymnasium
import numpy as np

from common.envs.base import Row, make_row
from common.envs.challenges.perturb import Perturbation
from common.envs.challenges.pipeline import CONSTRAINTS, MULTIOBJ
from common.envs.challenges.published import TASKS
from common.envs.challenges.safety import Safety, Tally
from common.envs.config import EnvConfig
from common.envs.render import Camera, choose_backend
from common.envs.variants import draw, split_seed, variant
from common.errors import UserError, nearest, to_install
from common.rows import LOG_PREFIX
from common.spaces import ObservationSpec, action_spec

# Camera 0 hides much of the quadruped; the Dreamer papers film it with camera 2.
CAMERAS = {"quadruped": 2}
# With PlaNet (google-research/planet, scripts/tasks.py) every domain has a repeat of its own.
PLANET_REPEATS = {"cartpole": 8, "reacher": 4, "cheetah": 4, "ball_in_cup": 4, "finger": 2}
SHORT_NAMES = {"cup_catch": ("ball_in_cup", "catch")}
MUJOCO = "'mujoco>=3.17,<4'"
"""Versions that dm_control works with."""


def repeat_of(name: str, wanted: int) -> int:
    """Returns the simulator steps per action of a task: ``env.action_repeat`` written out."""
    if wanted < 0:
        return PLANET_REPEATS.get(find_task(split_seed(name)[0])[0], 2)
    return wanted or 2


class ControlSuite:
    """One control-suite task.

    Actions are scaled from [-1, 1] to the task's bounds, rewards are summed over the
    action repeat, and only the frame that the agent sees is drawn. An episode is
    terminal where the simulator's discount is 0, never at a time limit.

    Attributes:
        name: "<domain>_<task>", written out; a variant has the name of its task.
        environment: dm_control's environment.

    Args:
        name: "walker_walk" and the like; "cup_catch" is short for ball_in_cup, and
            "walker_walk@12" has another body, see ``common.envs.variants``.
        config: ``pixels``, ``state``, ``camera``, ``render``, ``image_size``,
            ``action_repeat`` (0 means 2, -1 PlaNet's), ``time_limit`` and of ``challenge`` what
            is about the body apply.
        seed: Seed of the initial states.

    Raises:
        UserError: The task or camera is unknown, nothing would be observed, pictures are
            wanted and there is no renderer, or a challenge is not for this task.
    """

    def __init__(self, name: str, config: EnvConfig, seed: int):
        if not (config.pixels or config.state):
            raise UserError("env.pixels and env.state are both off; turn one of them on")
        domain, self.environment = load(name, seed)
        self.name = "_".join(find_task(split_seed(name)[0]))
        self._domain, self._config = domain, config
        self._perturbation, self._safety = _body_challenges(name, config, seed)
        self._camera: Camera | None = None
        self._frames = 0
        self._time_limit = config.time_limit
        self.action_repeat = repeat_of(name, config.action_repeat)
        # dm_control tells its limit nowhere else.
        limit = min(
            getattr(self.environment, "_step_limit", math.inf), self._time_limit or math.inf
        )
        self.max_steps = math.ceil(limit / self.action_repeat) if limit < math.inf else 0
        bounds = self.environment.action_spec()
        self.action_space = gymnasium.spaces.Box(
            bounds.minimum.astype(np.float32), bounds.maximum.astype(np.float32)
        )
        self.action_spec = action_spec(self.action_space)
        self._middle = (bounds.maximum + bounds.minimum) / 2
        self._half = (bounds.maximum - bounds.minimum) / 2
        self._judged = self._judged_specs()
        self.observation_specs = self._specs()
        if config.pixels:
            self._camera = self._open_camera()

    def reset(self) -> Row:
        """Begins an episode."""
        self._frames = 0
        log = self._perturb() if self._perturbation else None
        if self._safety:
            self._safety.reset()
        tally = self._tally()
        observation = self._observe(self.environment.reset().observation, tally)
        return make_row(observation, first=True, cost=tally.cost, log=log)

    def step(self, action: np.ndarray) -> Row:
        """Applies one flat action ``[A]`` in [-1, 1]; entries outside are clipped."""
        control = self.control(action)
        tally = self._tally()
        for _ in range(self.action_repeat):
            step = self.environment.step(control)
            tally.add(self.environment.physics, step.reward)
            self._frames += 1
            last = step.last()
            if last or self._frames == self._time_limit:
                break
        return make_row(
            self._observe(step.observation, tally),
            tally.reward,
            last=last or self._frames == self._time_limit,
            terminal=last and step.discount == 0,
            cost=tally.cost,
            log=tally.log,
        )

    def control(self, action: np.ndarray) -> np.ndarray:
        """Scales actions ``[..., A]`` in [-1, 1] to the task's bounds; the rest is clipped."""
        return self._middle + self._half * np.clip(action, -1, 1)

    def render(self) -> np.ndarray | None:
        """Returns the camera picture; the first call opens the renderer if need be."""
        if self._camera is None:
            try:
                self._camera = self._open_camera()
            except UserError:
                return None
        return self._camera.draw(self.environment.physics.data.ptr)

    def close(self) -> None:
        """Frees the renderer and the simulator."""
        if self._camera is not None:
            self._camera.close()
        self.environment.close()

    def _specs(self) -> dict[str, ObservationSpec]:
        specs = {}
        if self._config.state:
            for key, spec in self.environment.observation_spec().items():
                specs[key] = ObservationSpec((int(np.prod(spec.shape)),), "vector")
        if self._config.pixels:
            size = self._config.image_size
            specs["image"] = ObservationSpec((size, size, 3), "image")
        return dict(sorted((specs | self._judged).items()))

    def _judged_specs(self) -> dict[str, ObservationSpec]:
        challenge, specs = self._config.challenge, {}
        if self._safety and challenge.safety.observations:
            specs[CONSTRAINTS] = ObservationSpec((len(self._safety.names),), "vector")
        if challenge.multiobj.observed:
            specs[MULTIOBJ] = ObservationSpec((2,), "vector")
        return specs

    def _tally(self) -> Tally:
        return Tally(self._safety, self._config.challenge.multiobj.coeff)

    def _perturb(self) -> dict[str, float]:
        """Gives the next episode its body; returns what the log says of it."""
        model = self._perturbation.next(_suite())
        if model is not None:
            self.environment.physics.reload_from_xml_string(*model)
            if self._camera is not None:  # It shows the body before.
                self._camera.close()
                self._camera = None
        return {f"{LOG_PREFIX}{self._perturbation.param}": self._perturbation.value}

    def _open_camera(self) -> Camera:
        camera = self._config.camera
        if camera < 0:
            camera = CAMERAS.get(self._domain, 0)
        model = self.environment.physics.model.ptr
        return Camera(model, self._config.image_size, camera, self._config.render == "fast")

    def _observe(self, state: dict[str, Any], tally: Tally) -> dict[str, np.ndarray]:
        observation = {}
        if self._config.state:
            for key, value in state.items():
                observation[key] = np.asarray(value, np.float32).reshape(-1)
        if self._config.pixels:
            self._camera = self._camera or self._open_camera()
            observation["image"] = self._camera.draw(self.environment.physics.data.ptr)
        if CONSTRAINTS in self._judged:
            observation[CONSTRAINTS] = tally.constraints
        if MULTIOBJ in self._judged:
            observation[MULTIOBJ] = tally.objectives
        return observation


def _body_challenges(
    name: str, config: EnvConfig, seed: int
) -> tuple[Perturbation | None, Safety | None]:
    """Returns what changes the body of a task and what judges it; None for nothing."""
    task, number = split_seed(name)
    domain, task = find_task(task)
    perturb, safety = config.challenge.perturb, config.challenge.safety
    perturbs = perturb.param if task in TASKS.get(domain, ()) or perturb.param != "auto" else ""
    if perturbs and number is not None:
        raise UserError(
            f"'dmc_{name}' has a body of its own, which env.challenge.perturb.param "
            f"{perturb.param!r} would replace; leave one of them out"
        )
    return (
        Perturbation(domain, task, perturb, seed) if perturbs else None,
        Safety(domain, task, safety) if safety.constraints else None,
    )


def task_names() -> dict[str, tuple[str, str]]:
    """Maps "domain_task" to (domain, task) for the whole suite, short names included."""
    names = {f"{domain}_{task}": (domain, task) for domain, task in _suite().ALL_TASKS}
    return names | SHORT_NAMES


def written_out(task: str) -> str:
    """Returns a task's name, such as "dmc_cup_catch", without the short forms of its parts."""
    suite, _, name = task.partition("_")
    if suite != "dmc":
        return task
    name, at, body = name.partition("@")
    return f"dmc_{'_'.join(SHORT_NAMES[name]) if name in SHORT_NAMES else name}{at}{body}"


def find_task(name: str) -> tuple[str, str]:
    """Returns domain and task of a name without the number of a variant.

    Raises:
        UserError: The task is unknown.
    """
    names = task_names()
    if name not in names:
        tasks = [f"dmc_{known}" for known in names]
        raise UserError(f"unknown task 'dmc_{name}'{nearest(f'dmc_{name}', tasks)}")
    return names[name]


def load(name: str, seed: int) -> tuple[str, Any]:
    """Returns the domain and dm_control's environment of a task or of a variant of it.

    Raises:
        UserError: The task is unknown or has no variants, or MuJoCo's version does not fit
            dm_control.
    """
    name, body = split_seed(name)
    domain, task = find_task(name)
    try:
        environment = _suite().load(domain, task, task_kwargs={"random": seed})
    except AttributeError as error:
        import mujoco

        raise UserError(
            f"dm_control does not work with mujoco {mujoco.__version__} ({error}); "
            f"run {to_install(MUJOCO)}"
        ) from error
    if body is not None:
        environment.physics.reload_from_xml_string(*variant(_suite(), domain, task, body))
    return domain, environment


def describe(task: str) -> dict[str, float]:
    """Returns the factors of a variant by name; nothing for an unvaried task.

    Args:
        task: Such as "dmc_walker_walk@12".

    Raises:
        UserError: The task is unknown, is none of the control suite or has no variants.
    """
    name, seed = split_seed(task.removeprefix("dmc_"))
    domain, _ = find_task(name)
    return {} if seed is None else draw(domain, seed)


def _suite() -> Any:
    """Imports the suite, after the renderer is chosen."""
    backend = choose_backend()
    # NumPy 2.5 deprecates an assignment that dm_control makes at every step.
    warnings.filterwarnings(
        "ignore", category=DeprecationWarning, module=r"dm_control\.mujoco\.index"
    )
    try:
        from dm_control import suite
    except Exception as error:  # A renderer that fails raises many types.
        if isinstance(error, ModuleNotFoundError):
            hint = f"run {to_install('dm_control', MUJOCO)}"
        else:
            hint = f"MUJOCO_GL is {backend!r}; unset it, or set it to 'disable' for state only"
        raise UserError(f"the control suite does not load ({error}); {hint}") from error
    return suite
