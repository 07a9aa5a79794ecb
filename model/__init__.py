"""Everything that knows torch: training, calibration, scoring and explaining. Imports neither pyspark nor click."""
