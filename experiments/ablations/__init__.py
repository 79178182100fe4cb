"""SHA-RNN with one thing changed at a time."""
