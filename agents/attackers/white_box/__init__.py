"""Attackers that differentiate the classifier itself: references for what queries alone can reach."""
