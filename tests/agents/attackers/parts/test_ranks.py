import torch

from agents.attackers.parts.ranks import rank_within


def test_a_rank_counts_the_earlier_rows_of_the_game():
    game = torch.tensor([3, 1, 3, 3, 1, 0])
    assert rank_within(game).tolist() == [0, 0, 1, 2, 1, 0]
    assert rank_within(game[:0]).tolist() == []
