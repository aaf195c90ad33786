"""Plays the matches of a scenario into a log."""
