"""Raw files: found, told apart, cut into lines and parsed into reviews or reasons."""
