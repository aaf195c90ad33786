"""Attackers that see nothing of an answer but its label."""
