"""From values to files: what is to be written, how each format writes it, and how the file comes to its place."""
