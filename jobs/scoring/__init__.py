"""Models applied to reviews: scores and explanations, in Spark and for single texts."""
