"""What tokenization does to a perplexity: one text as bytes, words and word pieces, for SHA-RNN and a Transformer."""
