"""Experience replay: rows of every environment stream, sampled as windows."""

from common.replay.chunks import write_chunk
from common.replay.config import ReplayConfig
from common.replay.episodes import read_bodies, read_episodes, write_episodes
from common.replay.prefetch import Prefetcher
from common.replay.replay import Replay
from common.replay.sampling import Windows
from common.replay.share import Share

__all__ = [
    "Prefetcher",
    "Replay",
    "ReplayConfig",
    "Share",
    "Windows",
    "read_bodies",
    "read_episodes",
    "write_chunk",
    "write_episodes",
]
