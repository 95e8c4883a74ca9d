"""What tests of every tier share: waiting, zips, a daemon to talk to."""
