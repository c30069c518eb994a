"""The study of what an attack of growing strength does to predictions and explanations."""
