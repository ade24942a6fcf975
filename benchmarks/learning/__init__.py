"""Learning curves of finished runs, recorded beside their protocol and hardware."""
