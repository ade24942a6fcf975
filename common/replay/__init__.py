"""Experience replay: rows of every environment stream, sampled as windows."""

from common.replay.chunks import read_episodes, write_chunk
from common.replay.config import ReplayConfig
from common.replay.prefetch import Prefetcher
from common.replay.replay import Replay

__all__ = ["Prefetcher", "Replay", "ReplayConfig", "read_episodes", "write_chunk"]
