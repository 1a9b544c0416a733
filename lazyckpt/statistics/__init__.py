"""Values in a few numbers: measured a piece at a time, gathered in a table."""
