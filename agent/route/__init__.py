"""5. Where does it go, and what changes on the way? Synchronous and pure."""
