"""4. May this peer do this? Workload-wide checks before routing."""
