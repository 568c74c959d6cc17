"""Ports for the few tests that must name one before it is bound."""

from __future__ import annotations

import random
import socket

_BELOW_EPHEMERAL = range(20_000, 32_000)
"""The kernel gives out ports from 32768 on, so nobody who asks for port 0 takes one of these in between."""


def unused_port() -> int:
    """A loopback port that nobody has."""
    for port in random.SystemRandom().sample(_BELOW_EPHEMERAL, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("a hundred ports in a row are taken")
