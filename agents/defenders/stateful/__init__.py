"""Defenders that compare a query with earlier ones."""
