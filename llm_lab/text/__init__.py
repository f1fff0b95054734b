"""From text to token ids: documents, tokenizer, rows, masks, batches."""
