"""How fast it is, as ratios to the bare work: `python -m benchmarks` runs all and writes RESULTS.md.

A benchmark is one file here, `benchmarks/<capability>.py`, with

- a docstring: its first line titles the section, the rest says what is measured;
- `FLOOR`: one sentence on the bare work that ratios refer to;
- `run(repeats, quick) -> list[dict]`: one dict a row, columns by first appearance. `quick` asks for a small trial.

Figures are measured by `_timing.interleaved`. A row may hold `"target": "ratio <= 1.10"`, or several bounds separated
by semicolons: the column named on the left is compared, and the report marks the row where a bound is missed.
"""
