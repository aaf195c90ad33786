"""What a game reports while it runs, and what came of it: plain arrays, no database."""
