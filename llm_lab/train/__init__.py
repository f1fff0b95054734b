"""From a model and batches to a trained model. Knows nothing of text or of architecture."""
