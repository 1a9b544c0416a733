"""The values an index is made of: dtypes, entries, runs of small tensors."""
