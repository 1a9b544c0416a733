"""Reports about checkpoints: differences, matches with a net, diagnosis, verification, search."""
