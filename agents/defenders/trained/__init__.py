"""Defenses that are trained into the classifier."""
