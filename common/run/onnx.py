"""A trained policy as ONNX: one step of encoder, dynamics and actor, for hosts without JAX.

The graph takes what the environment shows, ``is_first``, random numbers and what the policy
remembers; it gives the action in the environment's units and what is remembered next.
Normalisation, resets and the scaling of actions are inside. A JSON file beside it says what
every input is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.export import symbolic_shape

from common.agent import NoiseSpec, Reactive
from common.errors import UserError
from common.files import replacing
from common.nets.conv import use_implementation
from common.run.clocks import announced
from common.run.loading import LoadedAgent
from common.run.program import Program
from common.spaces import ActionPart, ActionSpec, ObservationSpec
from common.types import Array, Params

FORMAT = 1
"""Version of the JSON file; what it holds is in ``docs/onnx.md``."""
OPSET = 20
CHECKED_STEPS = 50
TIMED_STEPS = 100
SEVERAL = 3
"""Environments with which a graph for any number is checked, beside a single one."""
TOLERANCE = 1e-4
"""Largest difference to JAX in any output, over the steps that are checked."""
_WIDEST = 2**24
"""Integers up to this are floats of 32 bits."""

Latents = Literal["sample", "mode"]
DYNAMIC = "dynamic"
"""In the place of a number of environments: each call says how many there are."""
Batch = int | Literal["dynamic"]


class Tensor(NamedTuple):
    """An input or output of the graph.

    Attributes:
        name: Its name.
        shape: With the number of environments in front, or a symbol for it.
        dtype: NumPy's name of its type.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def struct(self) -> jax.ShapeDtypeStruct:
        """The same for JAX."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    def of(self, batch: int) -> Tensor:
        """Returns it with so many environments in front."""
        return self._replace(shape=(batch, *self.shape[1:]))


class Step(NamedTuple):
    """One step as a function of flat arrays.

    Attributes:
        run: ``(*inputs) -> outputs``, in the order of both lists.
        noise: The random numbers that are drawn, by name.
        inputs: ``is_first [N]``, observations, noise and carry.
        outputs: Actions, then the next carry, as many as among the inputs.
    """

    run: Any
    noise: Mapping[str, NoiseSpec]
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]


def write_onnx(
    program: Program, path: pathlib.Path, out: pathlib.Path, batch: Batch, latents: Latents
) -> str:
    """Writes the policy of a run or an export, and the JSON file beside it.

    Args:
        program: The program that trained it.
        path: Run folder or exported file.
        out: Where to, ending in ".onnx".
        batch: Environments that are acted in at once, N; or "dynamic".
        latents: "sample" draws the latent state as evaluations do; "mode" takes the likeliest.

    Returns:
        A line for the user: what was written, and how far it is from JAX.

    Raises:
        UserError: There is no such agent, or it only plans, or ONNX can't say what it computes, or
            the converter is not installed.
    """
    if out.suffix != ".onnx":
        raise UserError(f"--onnx {out} must end in .onnx")
    convert = converter()
    agent = LoadedAgent(program, path, precise=True)
    reactive = agent.act_function.agent.reactive
    if reactive is None:
        raise UserError(
            f"{path} plans every action, and one step of a graph can't; a Dreamer or TD-MPC2 has "
            "a policy that can be exported"
        )
    if latents == "mode":
        kept = {name: spec for name, spec in reactive.noise.items() if name != "latent"}
        reactive = reactive._replace(noise=kept)
    step = make_step(reactive, agent.params, agent.observations, agent.actions, batch)
    with announced("converting"):
        proto = convert(step)
    described = _describe(agent, step, batch, latents)
    for key in ("format", "agent", "task"):
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, str(described[key])
    data = proto.SerializeToString()
    difference, milliseconds = _compare(data, step, 1 if batch == DYNAMIC else batch)
    if batch == DYNAMIC:
        difference = max(difference, _compare(data, step, SEVERAL)[0])
    described["compared"] = {"steps": CHECKED_STEPS, "largest_difference": difference}
    beside = out.with_suffix(".json")
    with replacing(out) as temporary:
        temporary.write_bytes(data)
    with replacing(beside) as temporary:
        temporary.write_text(json.dumps(described, indent=2) + "\n")
    return (
        f"{out} ({len(data) / 2**20:.1f} MiB) and {beside.name}: at most {difference:.1e} from JAX "
        f"over {CHECKED_STEPS} steps, {milliseconds:.2f} ms a step on one core"
    )


def make_step(
    reactive: Reactive,
    params: Params,
    observations: Mapping[str, ObservationSpec],
    actions: ActionSpec,
    batch: Batch,
) -> Step:
    """Builds the step; its parameters become constants of the graph.

    With the batch "dynamic" all shapes begin with JAX's symbol N.

    Raises:
        UserError: An action is an integer that 32-bit floats can't count.
    """
    n = symbolic_shape("N")[0] if batch == DYNAMIC else batch
    start = reactive.initial_carry(1)
    paths, tree = jax.tree_util.tree_flatten_with_path(start)
    places = {".".join(str(key).strip(".[]'") for key in path): leaf for path, leaf in paths}
    noise = {f"noise.{name}": spec for name, spec in reactive.noise.items()}
    seen = {f"observation.{key}": spec for key, spec in observations.items()}
    inputs = [
        Tensor("is_first", (n,), "bool"),
        *(Tensor(name, (n, *x.shape), np.dtype(x.dtype).name) for name, x in seen.items()),
        *(Tensor(name, (n, *spec.shape), "float32") for name, spec in noise.items()),
        *(Tensor(f"carry.{name}", (n, *x.shape[1:]), x.dtype.name) for name, x in places.items()),
    ]
    for part in actions.parts:
        if np.dtype(part.dtype).kind != "f" and max(map(abs, (*part.low, *part.high, 0))) > _WIDEST:
            raise UserError(f"an action from {part.low} to {part.high} has too many integers")

    def run(is_first: Array, *rest: Array) -> tuple[Array, ...]:
        rest = list(rest)
        rows = {key: rest.pop(0) for key in observations} | {"is_first": is_first}
        drawn = {name: rest.pop(0) for name in reactive.noise}
        vector, carry = reactive.act(params, drawn, jax.tree.unflatten(tree, rest), rows)
        return *decode(actions, vector).values(), *jax.tree.leaves(carry)

    decoded = jax.eval_shape(lambda vector: decode(actions, vector), jnp.zeros((1, actions.size)))
    outputs = [
        *(Tensor(name, (n, *x.shape[1:]), x.dtype.name) for name, x in decoded.items()),
        *(Tensor(f"next.{name}", (n, *x.shape[1:]), x.dtype.name) for name, x in places.items()),
    ]
    return Step(run, reactive.noise, inputs, outputs)


def decode(actions: ActionSpec, vector: Array) -> dict[str, Array]:
    """Turns flat vectors ``[N, A]`` into actions of the environment, by name.

    It is ``ActionSpec.decode`` for graphs: of an action that is no Dict the name is "action",
    otherwise "action.<key>". Floats are float32, whole numbers int32, ``[N, *shape]``.
    """
    found: dict[str, list[tuple[ActionPart, Array]]] = {}
    for part, entries in actions.blocks:
        name = ".".join(("action", *part.place))
        found.setdefault(name, []).append((part, _decode_part(part, vector[:, entries])))
    decoded = {}
    for name, parts in found.items():
        whole, values = parts[0][0].shape, [value for _, value in parts]
        joined = values[0] if len(parts) == 1 else jnp.stack(values, -1)
        decoded[name] = joined.reshape(vector.shape[0], *whole)
    return decoded


def _decode_part(part: ActionPart, block: Array) -> Array:
    if part.kind == "categorical":
        return block.argmax(-1).astype(jnp.int32) + part.start
    low, high = (jnp.array(bound, jnp.float32) for bound in (part.low, part.high))
    share = (jnp.clip(block, -1, 1) + 1) / 2
    if np.dtype(part.dtype).kind == "f":
        return jnp.clip(low * (1 - share) + high * share, low, high)
    return (low + jnp.rint(share * (high - low))).astype(jnp.int32)


def converter() -> Callable[[Step], Any]:
    """Returns ``(step) -> onnx.ModelProto``, which raises UserError where ONNX can't say a step.

    Raises:
        UserError: The library is not installed.
    """
    try:
        import jax2onnx
    except ImportError as error:
        raise UserError(
            f"ONNX needs more libraries ({error}): pip install 'world-model-agents[onnx]'"
        ) from error

    def convert(step: Step) -> Any:
        structs = [one.struct for one in step.inputs]
        try:
            with use_implementation("library"):
                # The converter replaces functions of jax.numpy while it traces: what it gets is
                # traced.
                closed = jax.make_jaxpr(step.run)(*structs)
            evaluate = jax.extend.core.jaxpr_as_fun(closed)
            with _quiet():
                proto = jax2onnx.to_onnx(
                    lambda *inputs: tuple(evaluate(*inputs)),
                    structs,
                    opset=OPSET,
                    input_names=[one.name for one in step.inputs],
                    output_names=[one.name for one in step.outputs],
                )
            open_session(proto.SerializeToString())
        except Exception as error:
            words = " ".join(str(error).split())[:200]
            fixed = isinstance(step.inputs[0].shape[0], int)
            who = "this agent computes" if fixed else "it computes for any number of environments"
            hint = "" if fixed else "; give a number, such as --batch 1"
            raise UserError(f"ONNX can't say what {who} ({words}){hint}") from error
        return proto

    return convert


@contextlib.contextmanager
def _quiet() -> Any:
    """Keeps the converter's remarks about its own passes away from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def open_session(data: bytes) -> Any:
    """Returns ONNX Runtime's session of a serialised graph, on one core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _compare(data: bytes, step: Step, batch: int) -> tuple[float, float]:
    """Plays some steps with random observations and resets, beside JAX.

    Args:
        data: The graph.
        step: The step.
        batch: Environments.

    Returns:
        The largest difference of any output, and the milliseconds of a step of the graph.

    Raises:
        UserError: They differ by more than ``TOLERANCE``.
    """
    session, run = open_session(data), jax.jit(step.run)
    rng, worst = np.random.default_rng(0), 0.0
    taken = {one.name for one in session.get_inputs()}
    inputs = [one.of(batch) for one in step.inputs]
    carries = [one for one in inputs if one.name.startswith("carry.")]
    carry = {one.name: np.zeros(one.shape, one.dtype) for one in carries}
    for index in range(CHECKED_STEPS):
        values = {one.name: _random(rng, one, step.noise) for one in inputs} | carry
        values["is_first"] = np.full(values["is_first"].shape, index % 20 == 0)
        feed = {name: value for name, value in values.items() if name in taken}
        found = session.run(None, feed)
        wanted = run(*(values[one.name] for one in inputs))
        for ours, theirs in zip(found, wanted, strict=True):
            worst = max(worst, float(np.abs(ours - np.asarray(theirs)).max()))
        carry = dict(zip(carry, found[len(found) - len(carry) :], strict=True))
    if not worst <= TOLERANCE:
        raise UserError(
            f"the graph differs from JAX by {worst:.1e} in an output; it is not written"
        )
    spent = []
    for _ in range(TIMED_STEPS):  # Nothing beside it, which would take the processor's cache.
        before = time.perf_counter()
        session.run(None, feed)
        spent.append(time.perf_counter() - before)
    return worst, float(np.median(spent)) * 1e3


def _random(rng: np.random.Generator, one: Tensor, noise: Mapping[str, NoiseSpec]) -> np.ndarray:
    """Draws values of an input."""
    if one.dtype == "uint8":
        return rng.integers(0, 256, one.shape, np.uint8)
    spec = noise.get(one.name.removeprefix("noise."))
    uniform = spec is not None and spec.kind == "uniform"
    return (rng.random(one.shape) if uniform else rng.normal(size=one.shape)).astype(one.dtype)


def _describe(agent: LoadedAgent, step: Step, batch: Batch, latents: Latents) -> dict[str, Any]:
    """Returns what the JSON file says."""
    config = agent.config
    return {
        "format": FORMAT,
        "agent": type(config).__module__.partition(".")[0],
        "task": config.task,
        "action_repeat": config.env.action_repeat,
        "batch": batch,
        "latents": latents,
        "observations": [
            {"key": key, "input": f"observation.{key}", "kind": spec.kind, "shape": spec.shape}
            | ({"choices": spec.choices, "starts": spec.starts} if spec.choices else {})
            for key, spec in agent.observations.items()
        ],
        "noise": [
            {"input": f"noise.{name}", "kind": spec.kind, "shape": spec.shape}
            for name, spec in step.noise.items()
        ],
        "carry": [
            {"input": one.name, "output": f"next.{one.name.removeprefix('carry.')}",
             "shape": one.shape[1:], "dtype": one.dtype}
            for one in step.inputs if one.name.startswith("carry.")
        ],
        "actions": [
            {"path": part.path, "output": ".".join(("action", *part.place)), "kind": part.kind,
             "shape": part.shape, "dtype": part.dtype}
            | ({"low": part.low, "high": part.high} if part.kind == "continuous"
               else {"start": part.start, "choices": part.size})
            for part in agent.actions.parts
        ],
    }  # fmt: skip
