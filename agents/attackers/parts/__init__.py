"""What several attackers share."""
