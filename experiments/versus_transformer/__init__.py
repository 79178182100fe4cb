"""SHA-RNN compared with fairseq's Transformers and LSTM: equal parameters, equal tuning, equal budget."""
