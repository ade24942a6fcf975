"""The sweep over challenges of applied reinforcement learning: ``python -m benchmarks rwrl``.

Tasks of the Real-World RL suite, each with one challenge in several strengths, by the same jobs
that other benchmarks have; how returns and violated constraints change with the strength, and the
measures that the suite defines (arXiv:2003.11881).
"""
