"""Recordings: written crash-safe, read even when damaged, replayed, reported on, compared, exported."""
