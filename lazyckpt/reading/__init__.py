"""From an entry to its value: the only code that touches payload bytes."""
