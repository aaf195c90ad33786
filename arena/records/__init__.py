"""What a game reports while it is played, and its results: plain arrays, no database."""
