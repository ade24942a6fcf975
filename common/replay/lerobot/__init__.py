"""LeRobot datasets (https://github.com/huggingface/lerobot) as episodes, and episodes as such.

``layout`` finds what a dataset consists of, in version 2 and 3 of the format; ``tables`` and
``films`` read its Parquet files and its videos; ``read`` and ``write`` turn episodes one way and
the other.
"""
