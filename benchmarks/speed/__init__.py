"""Times updates, policy steps and convolutions at fixed shapes."""
