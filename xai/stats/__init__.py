"""Statistics: intervals and tests, crossed designs, and similarity of maps."""
