"""Matches played from Python, without a file: what they are played on, and what comes of them."""
