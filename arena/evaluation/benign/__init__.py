"""What a defended classifier takes from clients that attack nobody (docs/design.md, D13)."""
