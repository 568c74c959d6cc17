"""The configuration protocol between pilot and agent: messages and both roles' state, sans-I/O."""
