"""From token ids to logits: attention, positions, blocks, the encoder and its head."""
