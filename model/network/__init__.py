"""The network: pretrained encoder, head, adapter, and how they compute."""
