"""6. Bytes out: clusters, endpoints, pools and connections."""
