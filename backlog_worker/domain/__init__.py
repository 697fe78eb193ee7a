"""Decisions: values and `now` in, a value out; no I/O, no clock, no randomness."""
