"""What the commands of `arena` do, one module each."""
