"""Reports on checkpoints: differences, matches with a net, diagnosis, verification, search."""
