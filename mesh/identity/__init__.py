"""Who a workload is: SPIFFE ids, keys, certificates, TLS contexts."""
