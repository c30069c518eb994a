"""How fast it is, as ratios to the bare work: `python -m benchmarks` runs all and writes RESULTS.md."""
