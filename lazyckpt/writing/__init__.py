"""Write and convert files: items, encoders of each format, encryption, with their index."""
