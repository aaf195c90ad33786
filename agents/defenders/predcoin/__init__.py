"""PredCoin (Sitawarin et al.), its parity form, and their variants."""
