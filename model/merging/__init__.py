"""Several adapters combined into one model."""
