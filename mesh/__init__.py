"""What agent and pilot agree on, and what people import.

Map: errors and backoff are small shared words; config/ is what a proxy is told (the snapshot);
feed/ is the protocol that tells it; identity/ is who it is (SPIFFE, certificates);
net/ is byte streams, TLS and the small control-plane HTTP server; telemetry/ is logs and metrics;
ctl/ holds the commands and is the only place (with testing/) that joins agent and pilot.
"""

__version__ = "0.1.0"
