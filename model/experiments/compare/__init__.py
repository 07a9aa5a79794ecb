"""`reviewrisk compare`: methods side by side."""
