"""Flags in, one report out; no compilation logic."""
