"""Logs of others: files of other programs, read as episodes.

``source`` says which formats there are and opens a log. Each format has a module of its own, which
turns an episode into ``transitions``; what makes rows of them is the same for all.
"""
