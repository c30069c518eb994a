"""The page Metric curves."""
