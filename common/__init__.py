"""World models as components: one latent-dynamics core for planners and actor-critics.

    model = common.world_model(common.WorldModelConfig(), observation_space, action_space)

Importing this package loads no simulator, logger or checkpoint library.
"""

from __future__ import annotations

from common.export import load_world_model
from common.model.world_model import WorldModel, WorldModelConfig, world_model

__all__ = ["WorldModel", "WorldModelConfig", "load_world_model", "world_model"]
