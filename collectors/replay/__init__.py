"""Replay of usage files: read, sorted on disk, published once."""
