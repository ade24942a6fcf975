"""A conservative reward: the task's, less what an ensemble of models disagrees about.

An actor that learns from logs alone never sees where its own actions lead, and drifts to wherever
the world model promises too much. With r of the world model, λ of ``behavior.penalty`` and the
disagreement u of one-step models, as Plan2Explore has it (``dreamer.exploration.disagreement``),
it learns in imagination from

    r̃[t] = r[t] − λ u(f[t−1], a[t]),  t = 1..H;  r̃[0] = r[0]

as MOPO (arXiv:2005.13239) does with models of states, and LOMPO (arXiv:2012.11547) with latent
ones. The models learn from every replayed row, after actor and critic did, and none of their
gradients reaches anything else. The critic's values and all returns of imagination are those of r̃;
where the critic learns from replayed rows too, their own rewards stay whole.
"""

from __future__ import annotations

import jax

from common.learning.optimizers import make_optimizer
from common.model.imagine import Trajectory
from common.model.losses import Losses
from common.model.world_model import WorldModel
from common.types import Array, Key, Params, Rows
from dreamer.config import Config
from dreamer.exploration.disagreement import make_disagreement
from dreamer.exploration.intrinsic import find_sizes, look
from dreamer.learn import TrainState, learn_part

ENSEMBLE = "ensemble"
"""Name of the models' parameters, optimizer and metrics."""


class Conservative:
    """The ensemble bound to one configuration, and the reward that it makes.

    Attributes:
        ensemble: The models.
        optimizers: Theirs.
    """

    def __init__(self, model: WorldModel, config: Config):
        """Builds them.

        Args:
            model: The world model.
            config: Weight of the penalty, models and their optimizer.
        """
        self._model, self._penalty = model, config.behavior.penalty
        options, precision = config.exploration, model.config.precision
        self.ensemble = make_disagreement(options.ensemble, find_sizes(model), precision)
        self.optimizers = {ENSEMBLE: make_optimizer(options.opt)}

    def init(self, key: Key) -> tuple[Params, object]:
        """Draws the weights; returns parameters and optimizer state."""
        params = self.ensemble.init(key)
        return params, self.optimizers[ENSEMBLE].init(params)

    def reward(self, params: Params, trajectory: Trajectory) -> Array:
        """Returns the reward of imagined states ``[H + 1, N]``, r̃.

        Args:
            params: Of the "world_model" and the "ensemble".
            trajectory: What was imagined.
        """
        task = self._model.reward(params["world_model"], trajectory.features).mean()
        return task - self._penalty * self.ensemble.reward(params[ENSEMBLE], trajectory)

    def update(
        self, state: TrainState, world: Params, batch: Rows, losses: Losses
    ) -> tuple[TrainState, dict[str, Array]]:
        """Takes one gradient step of the models.

        Args:
            state: What the update has made so far.
            world: Parameters of the world model, as actor and critic imagined with them.
            batch: Replayed rows ``[B, T, ...]``.
            losses: Of the world model on them.
        """
        seen = look(self._model, world, batch, losses)
        grads, learned = jax.grad(self.ensemble.loss, has_aux=True)(
            state.params[ENSEMBLE], None, seen
        )
        state, stepped = learn_part(self.optimizers, state, ENSEMBLE, grads)
        return state, {f"{ENSEMBLE}/{name}": value for name, value in learned.items()} | stepped
