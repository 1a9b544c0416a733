"""Looking at a checkpoint: for people."""
