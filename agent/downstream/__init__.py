"""2. Bytes in: listeners, connections, TLS, and one driver per protocol."""
