"""Games being played: the board, the books, the oracle, the Referee, its verdicts, and the driver."""
