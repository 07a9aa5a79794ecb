"""From stored fields to the text that a model reads, with a way back to the stored characters."""
