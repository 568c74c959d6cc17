"""Byte streams over sockets, TLS, and the small HTTP server of the control ports."""
