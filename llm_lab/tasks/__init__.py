"""What a model is used for. Every task has the same four parts: encode, loss, predict, score."""
