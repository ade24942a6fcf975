"""A page on this machine that shows runs while they go on; it reads their folders only."""
