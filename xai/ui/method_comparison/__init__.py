"""The page Method comparison."""
