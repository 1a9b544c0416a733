"""Reports and search: `diff`, `match`, `diagnose`, `verify`, names, state of an index."""
