"""The results of a run for readers: tables on the terminal, and one HTML file (docs/design.md)."""
