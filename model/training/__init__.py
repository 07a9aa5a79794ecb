"""From labelled reviews to a bundle, and what is said before and after."""
