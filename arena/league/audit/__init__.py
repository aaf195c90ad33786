"""The audit of a log: where a robust-looking cell comes from a weak attack, luck or too few games."""
