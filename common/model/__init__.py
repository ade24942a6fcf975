"""The world model: its configuration, its parts, its loss, and what is done with it."""
