import torch

from agents.attackers.parts.choices import ChoicesAhead
from arena.rules.threat import Threat


def make_ahead(referee, linear, images, games, steps=4):
    x0 = images(games, (1, 2, 2))
    model = linear((1, 2, 2))
    seat = referee(model, x0, torch.zeros(games, dtype=torch.int64), Threat(epsilon=0.1, budget=9)).seat
    calls = []

    def make(first, count, i):
        calls.append((first, i.tolist()))
        step = torch.arange(first, first + count).view(-1, 1).expand(-1, len(i))
        return step * 100 + i, seat.uniform((count,), i).T

    return ChoicesAhead(seat, steps, make), calls


def test_every_open_game_gets_the_choices_of_its_step(referee, linear, images):
    ahead, calls = make_ahead(referee, linear, images, games=5)
    still_open = [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [1, 2, 4], [1, 4], [1, 4], [4]]
    for step, games in enumerate(still_open):
        i = torch.tensor(games)
        assert ahead.at(step, i)[0].tolist() == [step * 100 + g for g in games]
        assert ahead.at(step, i)[0].tolist() == [step * 100 + g for g in games]  # asked again: the same
    assert calls == [(0, [0, 1, 2, 3, 4]), (4, [1, 4])]


def test_a_games_choices_do_not_depend_on_which_others_are_open(referee, linear, images):
    together, _ = make_ahead(referee, linear, images, games=3)
    apart, _ = make_ahead(referee, linear, images, games=3)
    for step in range(9):
        both = together.at(step, torch.tensor([0, 1, 2]) if step < 3 else torch.tensor([1, 2]))[1]
        alone = apart.at(step, torch.tensor([2]))[1]
        assert alone.tolist() == both[-1:].tolist()
