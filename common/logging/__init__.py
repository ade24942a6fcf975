"""Metrics and videos of a run: JSON lines, TensorBoard, video files and the terminal."""

from common.logging.jsonl import JsonlSink, read_jsonl
from common.logging.logger import Logger, Sink
from common.logging.tensorboard import TensorBoardSink
from common.logging.terminal import TerminalSink, format_seconds
from common.logging.video import VideoSink

__all__ = [
    "JsonlSink",
    "Logger",
    "Sink",
    "TensorBoardSink",
    "TerminalSink",
    "VideoSink",
    "format_seconds",
    "read_jsonl",
]
