"""Directed exploration: a second actor and critic that learn to find what is new.

``intrinsic`` says what new is, by one of three methods; ``explorer`` learns to go there, in the
imagination of the same world model in which the task's actor and critic learn.
"""
