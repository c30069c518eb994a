"""The page Transfer learning."""
