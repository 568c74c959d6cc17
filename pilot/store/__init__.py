"""2. One immutable world per version."""
