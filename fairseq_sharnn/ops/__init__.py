"""The operations of the model: in each file the plain torch function, the fused one, and one function that chooses."""
