"""The report of runs: what they were given, how they went, how they score, and what they predict, side by side."""
