"""1. Where objects come from."""
