"""Synthetic reviews in the raw format, with known causes."""
