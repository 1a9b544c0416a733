"""From an entry to its value: header check, slices, decoding, many values at once."""
