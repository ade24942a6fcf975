"""The command line: presets, flags, and every command that agents share."""
