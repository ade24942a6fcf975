"""The job list of a benchmark: which runs it consists of, and the command of each.

``<logdir>/jobs.json`` holds it, a job per line. Runs lie in
``<logdir>/<agent>/<game>/seed-<n>``, what they print in ``<logdir>/logs``.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import json
import os
import pathlib
import sys
import warnings
from collections.abc import Iterable, Sequence

from benchmarks.suites import Suite
from common.command import flags
from common.command.presets import preset_names, resolve
from common.errors import UserError, nearest
from common.run.config import Settings, check_fleet

JOBS = "jobs.json"
LOGS = "logs"
AGENTS = ("dreamer", "planet")
ALIKE = "atari"
"""Suite whose games have the same observations and actions."""
_OWN = ("configs", "task", "seed", "logdir")
"""Options of the train command that the job list sets."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        game: Name of the task in the suite's table, such as "Pong" or "walker_walk".
        seed: Seed of the run.
        task: The task as the train command knows it.
        options: Words of the train command that only this task has.
    """

    game: str
    seed: int
    task: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Names the job in a sentence."""
        return f"{self.game} seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The job list.

    Attributes:
        logdir: Folder of the benchmark, absolute.
        suite: Name of the suite.
        agent: "dreamer" or "planet".
        configs: Presets of every run.
        options: Further words of every train command.
        frames: Length of a run.
        jobs: The runs.
        fleet: Runs that one process trains in one program.
    """

    logdir: pathlib.Path
    suite: str
    agent: str
    configs: tuple[str, ...]
    options: tuple[str, ...]
    frames: int
    jobs: tuple[Job, ...]
    fleet: int = 1

    def crew(self, job: Job) -> tuple[Job, ...]:
        """Returns the jobs that one process works on, this one among them.

        Those of one game, or of any in Atari's 200M frames, where all games look alike to an agent.
        """
        mates = [one for one in self.jobs if one.game == job.game or self.suite == ALIKE]
        first = mates.index(job) // self.fleet * self.fleet
        return tuple(mates[first : first + self.fleet])

    def name(self, job: Job) -> str:
        """Names a job in a sentence, with those beside which it runs."""
        more = len(self.crew(job)) - 1
        return f"{self.crew(job)[0]} and {more} more" if more else str(job)

    def folder(self, job: Job) -> pathlib.Path:
        """Returns the run folder of a job."""
        return self.logdir / self.agent / job.game / f"seed-{job.seed}"

    def log(self, job: Job) -> pathlib.Path:
        """Returns the file that collects what the attempts of a job print."""
        job = self.crew(job)[0]
        return self.logdir / LOGS / f"{job.game}-{job.seed}.log"

    def record(self, job: Job) -> pathlib.Path:
        """Returns the file that counts the attempts of a job."""
        return self.log(job).with_suffix(".json")

    def command(self, job: Job) -> list[str]:
        """Returns the words of the train command of a job, or of those of its crew."""
        if self.fleet > 1:
            first = self.crew(job)[0]
            crew = ("-m", "benchmarks.jobs.crew", str(self.logdir), first.game, str(first.seed))
            return [sys.executable, *crew]
        words = [sys.executable, "-m", self.agent, "train", "--configs", *self.configs]
        words += ["--task", job.task, "--seed", str(job.seed), *job.options]
        return [*words, "--logdir", str(self.folder(job)), *self.options]


def make(
    suite: Suite,
    logdir: pathlib.Path,
    agent: str,
    configs: Sequence[str],
    games: Sequence[str],
    seeds: int,
    options: Sequence[str],
    fleet: int = 1,
) -> Plan:
    """Builds a job list; touches nothing.

    Args:
        suite: The benchmark.
        logdir: Its folder; need not exist.
        agent: Which agent to train.
        configs: Presets, or YAML files; none takes the suite's.
        games: Names of tasks, or "all".
        seeds: Number of seeds, from 0 on.
        options: Further words for the train command.
        fleet: Runs that one process trains in one program.

    Raises:
        UserError: An unknown agent, game, preset or option, or one that a fleet cannot have.
    """
    if agent not in AGENTS:
        raise UserError(f"unknown agent {agent!r}{nearest(agent, AGENTS)}")
    if seeds < 1:
        raise UserError(f"--seeds is {seeds}; expected at least 1")
    if fleet < 1:
        raise UserError(f"--fleet is {fleet}; expected at least 1")
    known = preset_names()
    named = [name if name in known else _absolute(name) for name in configs or suite.configs]
    config = _resolved(agent, named, options)
    if fleet > 1:
        check_fleet(config)
    if suite.options and (challenges := config.env.challenge.named()):
        raise UserError(
            f"the job list sets the challenge of every run; leave env.challenge.{challenges[0]} out"
        )
    jobs = [
        Job(game, seed, suite.tasks[game], suite.options.get(game, ()))
        for game in choose_games(suite, games)
        for seed in range(seeds)
    ]
    logdir = logdir.expanduser().absolute()
    words = tuple(named), tuple(options)
    return Plan(logdir, suite.name, agent, *words, config.run.frames, tuple(jobs), fleet)


def choose_games(suite: Suite, names: Iterable[str]) -> list[str]:
    """Returns the games of a suite by their names, in the order of its table.

    Args:
        suite: The benchmark.
        names: Names of its table or of its tasks, in any case, or patterns of such, as
            "walker_*"; "all" for every one.

    Raises:
        UserError: No game has that name.
    """
    found: dict[str, set[str]] = {}
    for game, task in suite.tasks.items():
        for name in (game, task, task.partition("_")[2]):
            found.setdefault(name.lower(), set()).add(game)
    chosen: set[str] = set()
    for name in names:
        if name.lower() == "all":
            chosen |= set(suite.tasks)
            continue
        fitting = fnmatch.filter(found, name.lower())
        chosen.update(*(found[one] for one in fitting))
        if not fitting:
            hint = nearest(name.lower(), (game.lower() for game in suite.tasks))
            raise UserError(f"{suite.name} has no game {name!r}{hint}")
    return [game for game in suite.tasks if game in chosen]


def _absolute(preset: str) -> str:
    """A job may run elsewhere: a preset's file is named by its whole path."""
    path = pathlib.Path(preset).expanduser()
    return str(path.absolute()) if path.exists() else preset


def _resolved(agent: str, configs: Sequence[str], options: Sequence[str]) -> Settings:
    """Returns the configuration of the runs after all options are found to be right."""
    program = importlib.import_module(f"{agent}.program").load_program()
    parsed = flags.parse_flags(options, program.default_config, ("logdir",))
    given = {*parsed.extra, *parsed.values, *(["configs"] if parsed.configs else [])}
    for name in _OWN:
        if name in given:
            remedy = "give it before the --" if name == "configs" else "leave it out"
            raise UserError(f"the job list sets --{name} of every run; {remedy}")
    return resolve(program, configs, parsed.values)


def read(logdir: pathlib.Path) -> Plan:
    """Reads the job list of a folder.

    Raises:
        UserError: There is none.
    """
    logdir = logdir.expanduser().absolute()
    path = logdir / JOBS
    if not path.exists():
        raise UserError(f"there is no job list in {logdir}; the run command makes one")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        jobs = tuple(
            Job(**job | {"options": tuple(job.get("options", ()))}) for job in values.pop("jobs")
        )
        values |= {name: tuple(values[name]) for name in ("configs", "options")}
        plan = Plan(logdir, **values, jobs=jobs)
        _check(plan)
        return plan
    except (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        words = " ".join(str(error).split())
        raise UserError(
            f"{path} is not a job list of this package: {words}; the run command writes it anew"
        ) from error


def _check(plan: Plan) -> None:
    """Raises a TypeError where an entry is of another type, or no name of a folder."""
    words = [plan.suite, plan.agent, *plan.configs, *plan.options]
    words += [word for job in plan.jobs for word in job.options]
    for word in (*words, *(text for job in plan.jobs for text in (job.game, job.task))):
        if not isinstance(word, str):
            raise TypeError(f"{str(word)[:50]!r} is no word")
    for name in (plan.agent, *(job.game for job in plan.jobs)):
        if pathlib.PurePath(name).name != name:
            raise ValueError(f"{name[:50]!r} is no name of a folder")
    for number in (plan.frames, plan.fleet, *(job.seed for job in plan.jobs)):
        if type(number) is not int or number < 0:
            raise TypeError(f"{str(number)[:50]!r} is no whole number")
    if not plan.jobs or not plan.frames or not plan.fleet:
        raise ValueError("it lists nothing to do")


def extend(plan: Plan) -> Plan:
    """Adds the jobs that a folder lists already; touches nothing.

    A list that is damaged counts as empty, with a warning.

    Raises:
        UserError: The folder lists runs of another agent, or of other options.
    """
    if not (plan.logdir / JOBS).exists():
        return plan
    try:
        earlier = read(plan.logdir)
    except UserError as error:
        warnings.warn(f"{error}, without jobs that only it named", stacklevel=2)
        return plan
    for name in ("suite", "agent", "configs", "options", "frames", "fleet"):
        before, now = getattr(earlier, name), getattr(plan, name)
        if before != now:
            raise UserError(
                f"{plan.logdir} holds a benchmark with {name} {_words(before)}, not {_words(now)}; "
                "repeat its options (games and seeds may be added), or choose another --logdir"
            )
    return dataclasses.replace(plan, jobs=tuple(dict.fromkeys((*earlier.jobs, *plan.jobs))))


def write(plan: Plan) -> None:
    """Writes the job list into its folder, which is made.

    Raises:
        UserError: It cannot be written.
    """
    values = dataclasses.asdict(plan)
    del values["logdir"], values["jobs"]
    lines = [f" {json.dumps(name)}: {json.dumps(value)}," for name, value in values.items()]
    jobs = ",\n".join(f"  {json.dumps(dataclasses.asdict(job))}" for job in plan.jobs)
    text = "\n".join(["{", *lines, ' "jobs": [', jobs, " ]", "}", ""])
    temporary = plan.logdir / f".{JOBS}-{os.getpid()}"
    try:
        (plan.logdir / LOGS).mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        temporary.replace(plan.logdir / JOBS)
    except OSError as error:
        raise UserError(
            f"cannot write to {plan.logdir}: {error.strerror}; choose another --logdir"
        ) from error


def _words(value: object) -> str:
    return " ".join(map(str, value)) or "(none)" if isinstance(value, tuple) else str(value)
