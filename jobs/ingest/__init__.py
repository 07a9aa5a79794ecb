"""Parsed lines into `reviews` and `rejected_reviews`, cut into temporal splits."""
