"""A disk under random faults, every byte of it verified: `python -m tests.soak --minutes N`."""
