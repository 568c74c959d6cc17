"""3. One request and its response, from head to access log."""
