"""Which of several trained agents is the best, found out with few real episodes."""
