"""Plain data that every room shares: the dtype table, entries, extents, tensor runs."""
