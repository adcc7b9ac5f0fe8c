"""The digital-twin command."""
