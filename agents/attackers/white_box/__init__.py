"""Attackers that differentiate the classifier itself: references for what attacks by queries can reach."""
