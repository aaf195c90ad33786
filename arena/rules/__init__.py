"""The rules of a game: what the attacker may change, ask, see and know, and which label wins."""
