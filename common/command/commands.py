"""The commands of an agent: train, eval, report, compare, watch, doctor, check-env and others.

Heavy libraries are imported inside the commands, after ``prepare`` has said what they
should do.
"""

from __future__ import annotations

import math
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from common import config as configs
from common.command import comparing, doctor, presets, recording, trained, training, trust
from common.command.flags import Flags, preset_help
from common.command.table import Command
from common.errors import UserError, nearest
from common.files import check_place
from common.run import folder as run_folder
from common.run.config import Settings
from common.run.program import Program
from common.trained import located, refuse_name

if TYPE_CHECKING:
    from common.run.evaluation import MakePolicy

LoadProgram = Callable[[], Program]

LEARNED = "learned"
"""The model of a run, which ``eval`` takes where no other is named."""


def _train(load_program: LoadProgram, parsed: Flags) -> int:
    program = load_program()
    return training.run(program, _resolve(program, parsed), parsed)


def _eval(load_program: LoadProgram, parsed: Flags) -> int:
    program, model = load_program(), parsed.extra.get("model", LEARNED)
    if model not in (LEARNED, *program.models):
        raise UserError(f"unknown --model {model!r}{nearest(model, (LEARNED, *program.models))}")
    logdir = existing_run(parsed) if model == LEARNED else None
    episodes = whole_number(parsed, "episodes", 10, least=1, most=10_000)
    seed = whole_number(parsed, "seed", 0)
    from common.logging.video import check_suffix, write_video
    from common.run.evaluation import play

    film = pathlib.Path(parsed.extra["video"]) if "video" in parsed.extra else None
    if film:
        check_suffix(film)
        check_place("video", film, made=True)
    player = _learned_player if logdir else _model_player
    config, make_policy = player(program, parsed, seed)
    results = play(config.task, config.env, episodes, seed, make_policy, film=film is not None)
    for task, result in results.tasks.items():
        name = f"{task}: " if len(results.tasks) > 1 else ""
        print(f"{name}returns:", ", ".join(f"{value:.1f}" for value in result.returns))
    print(f"{results} of {results.all.lengths.mean():.0f} agent steps on average")
    if film and not results.videos:
        print("no video: the environment gives no picture", file=sys.stderr)
    for name, video in results.videos.items() if film else ():
        path = film.with_stem(film.stem + name.removeprefix("policy"))
        write_video(path, video)
        print(f"video: {path}")
    return 0


def _learned_player(program: Program, parsed: Flags, seed: int) -> tuple[Settings, MakePolicy]:
    """Returns configuration and policy of a trained agent."""
    from common.run.evaluation import trained_policy
    from common.run.loading import LoadedAgent

    if parsed.configs:
        others = f"--model {' or '.join(program.models)}" if program.models else "training"
        raise UserError(f"--configs is for {others}; a trained run has its own options")
    logdir = existing_run(parsed)
    with trained.by_its_own_command("eval", parsed.extra["logdir"]):
        agent = LoadedAgent(program, logdir, changes=parsed.values)
    trust.check_task(agent.config.task, agent.config.env.kwargs, parsed.extra.get("task"), logdir)
    return agent.config, trained_policy(agent, seed)


def _model_player(program: Program, parsed: Flags, seed: int) -> tuple[Settings, MakePolicy]:
    """Returns configuration and policy of an agent that acts without having learned."""
    name = parsed.extra["model"]
    if "logdir" in parsed.extra:
        raise UserError(f"--model {name} needs no run; leave --logdir out, or --model")
    model = program.models[name]
    if "task" in parsed.extra:
        parsed.values["task"] = parsed.extra["task"]
    config = model.fit(_resolve(program, parsed))
    return config, lambda envs: model.policy(config, envs, seed)


def _eval_options(program: Program) -> Mapping[str, str]:
    """Returns the options of ``eval`` for an agent that can act in other ways than it learned."""
    changed = f"those of {program.acting} can change" if program.acting else "nothing can change"
    if not program.models:
        return {"configs": f"Of the options below only {changed}."} if program.acting else {}
    others = "; ".join(f"{name}, {model.summary}" for name, model in program.models.items())
    return {
        "model": f"Model to act with: {LEARNED}, that of the run; or instead of a run {others}. "
        f"[one of {', '.join([LEARNED, *program.models])}; default: {LEARNED}]",
        "configs": f"Presets and options are for --model {' or '.join(program.models)}; of a run, "
        f"only {changed}.",
    }


def _report(load_program: LoadProgram, parsed: Flags) -> int:
    refuse_name(parsed.extra.get("logdir", ""))
    logdir = existing_run(parsed)
    from common.report.page import write_report

    print(f"report: {write_report(logdir)}")
    return 0


def _export(load_program: LoadProgram, parsed: Flags) -> int:
    logdir = existing_run(parsed)
    if "onnx" not in parsed.extra:
        raise UserError("name the file to write: --onnx walker.onnx")
    dynamic = parsed.extra.get("batch") == "dynamic"
    batch = "dynamic" if dynamic else whole_number(parsed, "batch", 1, least=1, most=65_536)
    latents = parsed.extra.get("latents", "sample")
    from common.checks import check_choice
    from common.run.onnx import Latents, write_onnx

    check_choice("latents", latents, Latents)
    out = pathlib.Path(parsed.extra["onnx"]).expanduser()
    check_place("onnx", out)
    check_place("onnx", out.with_suffix(".json"))
    with trained.by_its_own_command("export", parsed.extra["logdir"]):
        print(write_onnx(load_program(), logdir, out, batch, latents))
    return 0


def _compare(load_program: LoadProgram, parsed: Flags) -> int:
    return comparing.run(parsed)


def _watch(load_program: LoadProgram, parsed: Flags) -> int:
    folders = parsed.lists.get("logdir", ())
    if not folders:
        raise UserError("name the runs' folders: --logdir runs/*")
    refuse_name(*folders)
    port = whole_number(parsed, "port", 0, most=65535)
    from common.watch.server import open_server, serve

    serve(open_server(folders, port))
    return 0


def _doctor(load_program: LoadProgram, parsed: Flags) -> int:
    return doctor.run()


def _check_env(load_program: LoadProgram, parsed: Flags) -> int:
    config = _resolve(load_program(), parsed)
    from common import envs

    print(envs.check_env(config.task, config.env, config.seed))
    return 0


def _import(load_program: LoadProgram, parsed: Flags) -> int:
    for name in ("log", "out"):
        if name not in parsed.extra:
            raise UserError(f"name {_IMPORTED[name].partition('.')[0].lower()}: --{name} ...")
    repeat = whole_number(parsed, "repeat", 1, least=1)
    size = whole_number(parsed, "size", 64, least=32, most=1024)
    program = load_program()
    config = _resolve(program, parsed)
    named = "task" in parsed.values or config.task != program.default_config.task
    from common.run.imported import import_log

    log, out, task = parsed.extra["log"], parsed.extra["out"], config.task if named else None
    print(import_log(log, out, task, config.env, repeat, size))
    return 0


def _export_data(load_program: LoadProgram, parsed: Flags) -> int:
    for name in ("data", "format", "out"):
        if name not in parsed.extra:
            raise UserError(f"name {_EXPORTED[name].partition('.')[0].lower()}: --{name} ...")
    from common.command.exporting import FORMATS, PICTURES, export_data

    kind, pictures = parsed.extra["format"], parsed.extra.get("pictures", PICTURES[0])
    for name, value, known in (("format", kind, FORMATS), ("pictures", pictures, PICTURES)):
        if value not in known:
            raise UserError(f"unknown --{name} {value!r}{nearest(value, known)}")
    fps = whole_number(parsed, "fps", 20, least=1, most=1000)
    data, out, task = parsed.extra["data"], parsed.extra["out"], parsed.extra.get("task")
    print(export_data(data, kind, out, task, fps, pictures))
    return 0


def _zoo(load_program: LoadProgram, parsed: Flags) -> int:
    print(trained.listing())
    return 0


def _record(load_program: LoadProgram, parsed: Flags) -> int:
    for name in ("policy", "out"):
        if name not in parsed.extra:
            raise UserError(f"name {_RECORDED[name].partition('.')[0].lower()}: --{name} ...")
    episodes = whole_number(parsed, "episodes", 10, least=1, most=1_000_000)
    rate = configs.coerce(parsed.extra.get("rate", 0.0), float, "--rate")
    if not 0 <= rate <= 1000:
        raise UserError(f"--rate must be 0 to 1000 steps per second, not {rate:g}")
    who = parsed.extra["policy"]
    if "rate" in parsed.extra and who != recording.HUMAN:
        raise UserError(f"--rate is for --policy {recording.HUMAN}")
    print(recording.record_as(load_program(), who, parsed, episodes, rate))
    return 0


def _presets(load_program: LoadProgram, parsed: Flags) -> int:
    if not parsed.configs:
        print(preset_help())
        return 0
    if len(parsed.configs) != 2:
        raise UserError(f"--diff takes two presets, not {len(parsed.configs)}: --diff A B")
    program = load_program()
    before, after = (presets.resolve(program, [name]) for name in parsed.configs)
    changes = configs.difference(before, after)
    rows = [("", *parsed.configs), *((one.path, *map(_shown, one[1:])) for one in changes)]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for path, left, right in rows:
        print(f"{path:<{widths[0]}}  {left:<{widths[1]}}  {right}".rstrip())
    same = sum(1 for _ in configs.options(before)) - len(changes)
    print(f"{len(changes)} options of {program.name} differ, {same} do not")
    return 0


def _shown(value: Any) -> str:
    """Writes a value as on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "''"
    return str(value).lower() if isinstance(value, bool) else str(value) or "''"


def _resolve(program: Program, parsed: Flags) -> Settings:
    """Returns what presets and options give, where no file decides what code is run."""
    config = presets.resolve(program, parsed.configs, parsed.values)
    trust.check_presets(program, parsed.configs, parsed.values, config)
    return config


def existing_run(parsed: Flags) -> pathlib.Path:
    """Returns what ``--logdir`` names: the folder of a run, or an exported file.

    Raises:
        UserError: It was not given, or holds no run.
    """
    if "logdir" not in parsed.extra:
        raise UserError("name the run's folder: --logdir runs/...")
    logdir = located(parsed.extra["logdir"]).expanduser()
    if not logdir.is_file():  # An exported file serves as well.
        run_folder.agent_name(logdir)
    return logdir


def whole_number(
    parsed: Flags, name: str, default: int, least: int = 0, most: float = math.inf
) -> int:
    """Returns an option of a command that is a whole number.

    Raises:
        UserError: It is none, or out of its range.
    """
    value = configs.coerce(parsed.extra.get(name, default), int, f"--{name}")
    if value < least:
        raise UserError(f"--{name} must be at least {least}, not {value}")
    if value > most:
        raise UserError(f"--{name} must be at most {most}, not {value}")
    return value


_LOGDIR = "Folder of the run."
_CONFIGS = "Presets by name, or YAML files of your own; later ones win."
_IMPORTED = {
    "log": "The log. An .hdf5 file as D4RL has them, a folder of TFRecord files as RLDS or RL "
    "Unplugged have them, the folder of a LeRobot dataset, or minari:NAME for a local Minari "
    "dataset. The last two say themselves what they hold, and need no --task.",
    "out": "The new folder. It is there as a whole, or not at all.",
    "repeat": "Simulator steps of each logged action. [default: 1]",
    "size": "Height and width to which pictures of a LeRobot dataset are resized, where no task "
    "says it. [default: 64]",
    "configs": _CONFIGS,
}
_RECORDED = {
    "policy": "Who plays. Yourself by the keys of a terminal, chance, or the folder or exported "
    "file of a trained agent, or zoo:NAME, whose task and env options are taken. [human, random, "
    "a path, or zoo:NAME]",
    "episodes": "Episodes to play. [default: 10]",
    "out": "The new folder. It is there as a whole, or not at all.",
    "rate": "Of a human, steps per second; 0 takes one step for each key. [default: 0]",
    "configs": _CONFIGS,
}
_EXPORTED = {
    "data": "The episodes. A run's folder, one of .npz files, or one that holds a folder of such "
    "files for each policy.",
    "format": "The format. LeRobot's, or Minari's. [one of lerobot, minari]",
    "out": "What to write. A new folder; of Minari the name of a new dataset, cup/catch-v0.",
    "task": "The task that was played, if it is a module's function and the folder does not say "
    "what its actions are.",
    "fps": "Frames per second of a LeRobot dataset. [default: 20]",
    "pictures": "What pictures become in a LeRobot dataset: a video, which changes them a "
    "little, or PNG files. [one of video, png; default: video]",
}
COMMANDS = {
    "train": Command(
        _train,
        "Trains an agent; the same command on the same folder goes on with the run.",
        {
            "logdir": f"{_LOGDIR} [default: runs/<agent>-<task>-<seed>]",
            "configs": _CONFIGS,
            **training.OPTIONS,
        },
        configured=True,
    ),
    "eval": Command(
        _eval,
        "Plays episodes with a trained policy and prints its returns.",
        {
            "logdir": _LOGDIR,
            "episodes": "Episodes to play. [default: 10]",
            "video": "Where to film the first episode, .mp4 or .gif. [default: none]",
            "seed": "Seed of the environments. [default: 0]",
            "task": "Task of the run, where its file names one that runs code of others: a "
            "module's function, or one with env.kwargs. [default: none]",
        },
        further=_eval_options,
    ),
    "report": Command(
        _report,
        "Writes a run's learning curves and videos as one HTML file.",
        {"logdir": _LOGDIR},
    ),
    "export": Command(
        _export,
        "Writes a trained policy as ONNX, for hosts without JAX.",
        {
            "logdir": f"{_LOGDIR[:-1]}, or an exported file.",
            "onnx": "File to write, .onnx; a .json that says what its inputs are comes beside it.",
            "batch": "Environments that one call acts in, or dynamic: any number. [default: 1]",
            "latents": "Latent states: drawn as in evaluations, or the likeliest. [one of sample, "
            "mode; default: sample]",
        },
    ),
    "compare": Command(
        _compare,
        "Shows runs of one task beside what others published at the same frames.",
        comparing.OPTIONS,
        lists=("logdir",),
    ),
    "watch": Command(
        _watch,
        "Shows runs while they go on, on a page that this machine alone can open.",
        {
            "logdir": "Folders of runs, folders of such folders, or patterns: runs/*.",
            "port": "Port of 127.0.0.1. [default: one that is free]",
        },
        lists=("logdir",),
    ),
    "zoo": Command(_zoo, "Lists the trained agents that come with the package."),
    "doctor": Command(_doctor, "Looks for what this machine lacks, and names the remedy."),
    "check-env": Command(
        _check_env,
        "Steps an environment at random and says what an agent would see and do.",
        {"configs": _CONFIGS},
        configured=True,
    ),
    "import": Command(
        _import,
        "Writes a log of another program as a folder of episodes for --data.",
        _IMPORTED,
        configured=True,
    ),
    "record": Command(
        _record,
        "Plays episodes, yourself or by a policy, into a folder for --data.",
        _RECORDED,
        configured=True,
    ),
    "export-data": Command(
        _export_data,
        "Writes episodes as a dataset of LeRobot or Minari.",
        _EXPORTED,
    ),
    "presets": Command(
        _presets,
        "Lists the presets, or the options in which two of them differ.",
        {"diff": "Two presets by name, or YAML files of your own. [default: none]"},
    ),
}
"""Every command; each runs ``(load_program, parsed flags) -> exit code``."""
