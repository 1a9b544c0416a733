"""Statistics of values: computed a piece at a time, and collected in a table."""
