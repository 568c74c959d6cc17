"""Typed, validated user-facing kinds: bytes of YAML to objects or errors with positions."""
