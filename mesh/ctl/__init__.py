"""The commands; with mesh.testing the only place that joins agent and pilot."""
