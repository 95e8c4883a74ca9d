"""Storage modes: how input reaches a plugin and output reaches the client."""
