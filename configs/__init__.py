"""Presets by name: YAML files that ``--configs`` composes from left to right."""
