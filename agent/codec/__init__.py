"""1. What a message is. Sans-I/O: bytes and events, no sockets, no clock."""
