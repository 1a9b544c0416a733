"""What a checkpoint is made of, as plain values: dtypes, entries, runs of small tensors."""
