"""Checkpoints of distributed training: many files with slices of tensors, read as one."""
