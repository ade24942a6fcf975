"""Learning in a context: a transformer that has seen others learn improves without an update."""
