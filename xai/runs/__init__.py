"""Runs: a folder for each, its files and locks, its process, checkpoints, and a team of processes."""
