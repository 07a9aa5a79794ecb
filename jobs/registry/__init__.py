"""Which models there are, which one decides for which review, and by what right."""
