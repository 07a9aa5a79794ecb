"""What scores are worth: metrics, calibration, thresholds, and the model card."""
