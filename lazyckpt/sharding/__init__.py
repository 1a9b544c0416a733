"""Checkpoints in many files, seen as one: rank folders, strategy files, listings."""
