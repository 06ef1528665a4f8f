"""The doors for clients off the host."""
