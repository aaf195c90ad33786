"""Scenario files, and the validated matches that they describe."""
