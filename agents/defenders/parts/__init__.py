"""What several defenders share."""
