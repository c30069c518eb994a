"""The page Bias audit."""
