from dataclasses import dataclass, field

import pytest
import torch

from agents.attackers.adaptive.eot import EOT
from agents.attackers.adaptive.op_square import OpSquare
from agents.attackers.score.bandits import Bandits
from agents.attackers.score.nes import NES
from agents.attackers.score.random_search import RandomSearch
from agents.attackers.score.rgf import RGF
from agents.attackers.score.square import Square
from arena.players import Attacker, Needs
from arena.rules.threat import Threat

SHAPE = (1, 4, 4)


@dataclass(frozen=True)
class Probe(Attacker):
    """Asks for images of grey 1/2 as the plan says (games of each volley) and keeps all that it hears."""

    plan: tuple[tuple[int, ...], ...] = ((0,),)
    heard: list = field(default_factory=list)
    accounts: bool = False

    def play(self, games):
        self.heard.append(games)
        for volley in self.plan:
            i = torch.tensor(volley)
            x = torch.full((len(i), *games.x0.shape[1:]), 0.5)
            answers = yield from games.ask(x, i, "probe", i % 2 if self.accounts else None)
            self.heard.append(answers)
            self.heard.append(games.loss(answers))


NORMAL = torch.randn(1 << 16, generator=torch.Generator().manual_seed(0))


def noise(game, turn, sigma=1.0):
    """Normal, by game and turn alone."""
    return sigma * NORMAL[(game * 1009 + turn) % len(NORMAL)]


def noisy(x, game, turn):
    """Class 0 of two by a margin of 20 plus standard normal noise."""
    return torch.stack([20 + noise(game, turn), torch.zeros(len(x))], dim=1)


@pytest.fixture
def table(referee, images):
    """table(model, budget, games, ...): a referee of games on class 0."""

    def make(model, budget=100, games=1, objective="submit", accounts=1, **more):
        x0 = images(games, SHAPE)
        threat = Threat(epsilon=1.0, budget=budget, objective=objective, accounts=accounts)
        return referee(model, x0, torch.zeros(games, dtype=torch.int64), threat, **more)

    return make


def test_each_row_is_asked_m_times_side_by_side(table):
    probe = Probe(plan=((0, 1), (1,)))
    played = table(noisy, games=2).play(EOT(probe, repeats=3))
    assert played.volleys == [6, 3]
    assert [len(asked) for asked in played.asked] == [3, 6]
    assert played.purposes(1) == ["probe"] * 6
    _, both, loss, one, _ = probe.heard
    assert both.game.tolist() == [0, 1] and one.game.tolist() == [1]
    assert both.scores.shape == (2, 2) and both.repeats.shape == (3, 2, 2)
    for game in range(2):
        assert both.repeats[:, game, 0].tolist() == [float(z[0]) for _, _, z in played.asked[game][:3]]
        assert both.scores[game, 0] == pytest.approx(sum(played.margins(game)[:3]) / 3)
        assert loss[game] == pytest.approx(sum(played.margins(game)[:3]) / 3)


@pytest.mark.parametrize("m", [2, 5, 10])
def test_the_variance_of_the_loss_falls_by_m(table, m):
    games = 2000
    probe = Probe(plan=(tuple(range(games)),))
    table(noisy, games=games, budget=m).play(EOT(probe, repeats=m))
    variance = float(probe.heard[2].double().var())
    assert variance == pytest.approx(1 / m, rel=5 * (2 / games) ** 0.5)


def test_the_loss_is_the_mean_of_losses_and_the_label_that_of_the_mean_scores(table):
    answers = torch.tensor([[4.0, 0.0, 9.0], [4.0, 9.0, 0.0], [4.0, 1.0, 1.0]])
    probe = Probe()
    table(lambda x, game, turn: answers[turn - 1]).play(EOT(probe, repeats=3))
    _, heard, loss = probe.heard
    assert loss.item() == pytest.approx((-5 - 5 + 3) / 3)  # of the mean scores it would be 4 - 10/3 > 0
    assert heard.scores[0].tolist() == pytest.approx([4, 10 / 3, 10 / 3])
    assert heard.label.tolist() == [0]  # though two repeats of three were wrong


def test_mean_scores_that_are_all_equal_give_no_label(table):
    answers = torch.tensor([[4.0, 0.0], [0.0, 4.0]])
    probe = Probe()
    table(lambda x, game, turn: answers[turn - 1]).play(EOT(probe, repeats=2))
    _, heard, loss = probe.heard
    assert heard.label.tolist() == [-1]
    assert loss.item() == 0


def test_repeats_refused_are_left_out_and_all_refused_is_refused(table):
    probe = Probe(plan=((0,), (0,)))
    played = table(noisy, refuse=lambda game, turn: turn in (2, 4, 5, 6)).play(EOT(probe, repeats=3))
    _, some, loss, none, no_loss = probe.heard
    first, _, third, *_ = played.margins(0)
    assert some.answered.tolist() == [True] and some.refused.tolist() == [False]
    assert loss.item() == pytest.approx((first + third) / 2)
    assert none.answered.tolist() == [False] and none.refused.tolist() == [True]
    assert none.label.tolist() == [-1] and no_loss.tolist() == [torch.inf]


def test_under_first_a_hit_among_the_repeats_ends_the_game_at_once(table):
    def third_is_wrong(x, game, turn):
        return torch.where((turn == 3).unsqueeze(1), torch.tensor([0.0, 1.0]), torch.tensor([9.0, 0.0]))

    probe = Probe()
    played = table(third_is_wrong, objective="first").play(EOT(probe, repeats=5))
    heard = probe.heard[1]
    assert played.hits == [[3]] and len(played.asked[0]) == 3
    assert heard.answered.tolist() == [True] and heard.open.tolist() == [False] and not len(heard.playing)
    assert heard.scores[0, 0] == pytest.approx((9 + 9 + 0) / 3)


@pytest.mark.parametrize(("budget", "decisions", "last"), [(20, 4, 5), (23, 5, 3), (4, 1, 4), (1, 1, 1)])
def test_the_last_decision_takes_what_is_left(table, budget, decisions, last):
    probe = Probe(plan=((0,),) * decisions)
    played = table(noisy, budget=budget).play(EOT(probe, repeats=5))
    seat, *heard = probe.heard
    assert seat.threat.budget == decisions
    assert [int(answers.left) for answers in heard[::2]] == list(range(decisions - 1, -1, -1))
    assert len(played.asked[0]) == budget and not played.open[0]
    assert heard[-1].item() == pytest.approx(sum(played.margins(0)[-last:]) / last)
    assert heard[-2].open.tolist() == [False]


def test_rows_of_one_game_beyond_the_budget_are_not_answered(table):
    probe = Probe(plan=((0,) * 6,))
    played = table(noisy, budget=8).play(EOT(probe, repeats=3))
    heard, loss = probe.heard[1:]
    assert len(played.asked[0]) == 8
    assert heard.answered.tolist() == [True, True, True, False, False, False]
    assert not heard.refused.any()
    assert loss[2].item() == pytest.approx(sum(played.margins(0)[6:]) / 2)
    assert loss[3:].isinf().all()


def test_volleys_are_cut_so_that_the_repeats_of_a_row_stay_together(table):
    probe = Probe(plan=((0, 1, 2),))
    whole, cut = Probe(plan=probe.plan), Probe(plan=probe.plan)
    table(noisy, games=3).play(EOT(whole, repeats=4))
    assert table(noisy, games=3, max_rows=5).play(EOT(cut, repeats=4)).volleys == [4, 4, 4]
    assert torch.equal(cut.heard[1].repeats, whole.heard[1].repeats)


def test_accounts_go_with_their_rows(table):
    sent = []
    played = table(noisy, games=2, accounts=2)
    ask = played.ask
    played.ask = lambda volley: sent.append(volley.account) or ask(volley)
    played.play(EOT(Probe(plan=((0, 1),), accounts=True), repeats=2))
    assert sent[0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "of", [Square(), Square(rescale=True), OpSquare(), RandomSearch(), EOT(Square(), repeats=2)]
)
@pytest.mark.parametrize("budget", [1, 7, 30])
def test_the_true_budget_is_used_up_and_never_exceeded(table, of, budget):
    played = table(noisy, games=3, budget=budget).play(EOT(of, repeats=3))
    assert [len(asked) for asked in played.asked] == [budget] * 3


def test_by_the_adaptive_convention_the_budget_grows_with_the_repeats():
    assert EOT(Square(), repeats=7).budget_factor == 1
    adaptive = EOT(Square(), repeats=7, convention="adaptive")
    assert adaptive.budget_factor == 7
    assert EOT(adaptive, repeats=3).budget_factor == 7
    assert EOT(adaptive, repeats=3, convention="adaptive").budget_factor == 21


@pytest.mark.parametrize(("convention", "decisions"), [("fixed", 10), ("adaptive", 50)])
def test_the_schedule_inside_is_that_of_the_decisions(table, convention, decisions):
    eot = EOT(Probe(), repeats=5, convention=convention)
    table(noisy, budget=50 * eot.budget_factor).play(eot)
    assert eot.of.heard[0].threat.budget == decisions


def test_nested_all_repeats_count_alike(table):
    def curved(x, game, turn):
        return torch.stack(
            [torch.full((len(x),), 30.0), noise(game, turn, 5), noise(game, turn + 500, 5)], dim=1
        )

    probe = Probe(plan=((0, 1), (1,)))
    played = table(curved, games=2).play(EOT(EOT(probe, repeats=2), repeats=3))
    assert played.volleys == [12, 6]
    _, answers, loss, *_ = probe.heard
    assert answers.repeats.shape == (6, 2, 3)
    for game in range(2):
        assert loss[game].item() == pytest.approx(sum(played.margins(game)[:6]) / 6)
    assert probe.heard[0].threat.budget == 17  # of 34 of 100


def test_the_incumbent_is_asked_anew_m_times_every_so_many_steps(table):
    played = table(noisy, budget=24).play(EOT(Square(), repeats=2, refresh_every=3))
    steps = ["start", *["search"] * 3, "refresh", *["search"] * 3, "refresh", *["search"] * 3]
    assert played.purposes(0) == [purpose for purpose in steps for _ in range(2)]
    deep = EOT(EOT(Square(refresh_every=9), repeats=2), repeats=2, refresh_every=3)
    assert deep.inside() == EOT(Square(refresh_every=9), repeats=2, refresh_every=3)
    assert deep.inside().inside() == Square(refresh_every=3)
    assert EOT(Square(refresh_every=9)).inside() == Square(refresh_every=9)


def test_under_noise_the_mean_finds_the_better_image(referee, linear, images):
    """At equal numbers of decisions, the true margin that Square reaches is lower behind EOT."""
    shape, games = (1, 8, 8), 24
    slopes, x0 = linear(shape), images(games, shape, low=0.3, high=0.7)

    def true(x, game, turn):
        return slopes(x, game, turn) - slopes(x0, game, turn)[game] + torch.tensor([50.0, 0.0])

    def shown(x, game, turn):
        return true(x, game, turn) + torch.stack([noise(game, turn, 2.0), torch.zeros(len(x))], dim=1)

    label = torch.zeros(games, dtype=torch.int64)

    def reached(attacker, decisions=60):
        threat = Threat(epsilon=0.1, budget=(decisions + 1) * attacker.budget_factor)
        played = referee(shown, x0, label, threat).play(attacker)
        last = torch.stack([played.queries(game)[-1] for game in range(games)])  # of the incumbent, refreshed
        assert all(played.purposes(game)[-1] == "refresh" for game in range(games))
        z = true(last, torch.arange(games), label)
        return float((z[:, 0] - z[:, 1]).mean())

    plain = reached(Square(refresh_every=59))
    averaged = reached(EOT(Square(refresh_every=59), repeats=16, convention="adaptive"))
    assert averaged < plain - 1


def test_errors():
    with pytest.raises(ValueError, match="repeats must be at least 1; found 0"):
        EOT(Square(), repeats=0)
    with pytest.raises(ValueError, match="refresh_every must be 0: Probe has no incumbent to ask again"):
        EOT(Probe(), refresh_every=2)
    with pytest.raises(ValueError, match="refresh_every must be 0: Probe"):
        EOT(EOT(Probe()), refresh_every=2)
    with pytest.raises(ValueError, match="refresh_every must be 0 \\(never\\)"):
        EOT(Square(), refresh_every=-1)


def test_it_needs_what_the_attack_inside_needs_and_scores():
    assert EOT(Square(rescale=True)).needs == Square(rescale=True).needs
    assert EOT(Probe()).needs == Needs(feedback="scores")


@pytest.mark.parametrize("convention", ["fixed", "adaptive"])
@pytest.mark.parametrize("of", [NES(pairs=5), RGF(directions=5), Bandits()], ids=lambda a: type(a).__name__)
def test_finite_differences_are_those_of_mean_losses(referee, linear, images, of, convention):
    """Where repeats agree, it is the same play, each row M times: with the budget's M-th part of the rows in
    one convention, with as many rows and M times the queries in the other."""
    model, x0 = linear(SHAPE), images(2, SHAPE, low=0.4, high=0.6)
    ahead = lambda x, game, turn: model(x, game, turn) + torch.tensor([30.0, 0.0])  # noqa: E731
    attack, label = EOT(of, repeats=4, convention=convention), torch.zeros(2, dtype=torch.int64)
    granted = 60 * attack.budget_factor
    rows = granted // 4
    repeated, alone = (
        referee(ahead, x0, label, Threat(epsilon=0.3, budget=budget)).play(attacker)
        for attacker, budget in ((attack, granted), (EOT(of, repeats=1), rows))
    )
    assert rows == (15 if convention == "fixed" else 60)
    for game in range(2):
        assert len(repeated.asked[game]) == granted
        assert torch.equal(repeated.queries(game), alone.queries(game).repeat_interleave(4, dim=0))


def test_refreshing_gives_each_forward_difference_a_base_of_its_own(referee, linear, images):
    model, x0 = linear(SHAPE), images(1, SHAPE, low=0.4, high=0.6)
    ahead = lambda x, game, turn: model(x, game, turn) + torch.tensor([30.0, 0.0])  # noqa: E731
    attack = EOT(RGF(directions=3), repeats=2, refresh_every=1)
    threat, label = Threat(epsilon=0.3, budget=12), torch.zeros(1, dtype=torch.int64)
    table = referee(ahead, x0, label, threat).play(attack)
    assert table.purposes(0) == ["base"] * 6 + ["gradient"] * 6
    assert all(torch.equal(x, x0[0]) for x in table.queries(0)[:6])
    with pytest.raises(ValueError, match="refresh_every"):
        EOT(NES(), refresh_every=1)
