"""Flags in, one report out; no compilation logic."""

import gc

# What imports make stays: going through it again and again would be a sixth of the time they take.
gc.set_threshold(50_000)
