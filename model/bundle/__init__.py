"""A model version as a folder of data, and what is exported from it."""
