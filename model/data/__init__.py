"""Labelled reviews: split, audited, cut by product, compared, and made into batches."""
