"""The rules of the game told a second time, and what plays before both the Referee and them.

For the tests, and for `python -m bench fuzz`.
"""
