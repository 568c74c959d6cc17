"""4. One session per connected agent."""
