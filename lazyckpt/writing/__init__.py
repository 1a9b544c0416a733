"""Write values to files: items, the encoders of each format, and atomic replacement."""
