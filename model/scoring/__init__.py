"""Scores of texts by one merged model."""
