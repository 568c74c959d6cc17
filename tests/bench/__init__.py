"""`make bench`: ours and Envoy on the same work, in turns, in one run on one machine.

gateway, sidecar and tcp (opaque bytes) are the paths; push measures a YAML change on disk until the last agent has
acked it, rss the memory of an idle sidecar. Benches report and never fail on a number; what tests assert are counts.
Reading order: programs (what must be installed), process (a process tree, its CPU and memory), load (wrk and h2load),
bulk (one long stream), envoy and ours (the subjects), measure (the turns), table (what is printed and written).
"""
