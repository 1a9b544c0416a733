"""Checkpoints of distributed training: many files, each with its slices of every tensor, seen as one checkpoint."""
