"""OpenStack on loopback: configuration, databases, services and contents of one cloud in one directory."""
