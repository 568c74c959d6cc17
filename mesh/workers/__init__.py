"""Several worker processes that serve as one: their parent's supervision, sockets and admin port. Loads no agent."""
