"""Trees, tables and plots, made of entries and values. Knows no `Checkpoint`."""
