"""The steps from one layout of the log to the next."""
