"""World models as components: one latent-dynamics core for planners and actor-critics.

    model = common.world_model(common.WorldModelConfig(), observation_space, action_space)

Importing this package loads no simulator, logger or checkpoint library, and JAX only when
one of the names below is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.model.config import WorldModelConfig
    from common.model.load import load_world_model
    from common.model.save import save_world_model
    from common.model.world_model import WorldModel, world_model

__all__ = [
    "WorldModel",
    "WorldModelConfig",
    "load_world_model",
    "save_world_model",
    "world_model",
]

_PLACES = {
    "WorldModel": "common.model.world_model",
    "WorldModelConfig": "common.model.config",
    "load_world_model": "common.model.load",
    "save_world_model": "common.model.save",
    "world_model": "common.model.world_model",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'common' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """Lists the public names too."""
    return sorted({*globals(), *__all__})
