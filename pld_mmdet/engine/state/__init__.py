"""What a run keeps: files, weights, checkpoints, where a number came from."""
