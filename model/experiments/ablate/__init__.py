"""`reviewrisk ablate`: LoRA settings side by side."""
