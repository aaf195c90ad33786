"""Attackers that see only the label of an answer."""
