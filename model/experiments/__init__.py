"""Methods and settings held side by side. No command that serves reviews needs these."""
