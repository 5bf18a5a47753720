"""Attacks that the owner makes on its own release, before anyone else can, one file each.

Every attack guesses about records: those the teacher was trained on (main), records of the same people's kind that it
never saw (control), and without the release (baseline), in the sense of Giomi et al., "A unified framework for
quantifying privacy risk in synthetic data" (PoPETs 2023). What holds for main and control alike is knowledge about
people in general; only what main has beyond control is a leak about the records.
"""
