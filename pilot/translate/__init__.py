"""3. Pure functions from (World, Proxy) to a Snapshot."""
