from __future__ import annotations

import warnings

import pytest
from matplotlib import pyplot

from arena.envs import BlackBoxEnv, window


@pytest.fixture(autouse=True)
def agg():
    was = pyplot.get_backend()
    pyplot.switch_backend("agg")
    yield
    pyplot.switch_backend(was)


@pytest.fixture(autouse=True)
def no_figures():
    pyplot.close("all")  # what other tests drew


def test_where_no_display_is_it_says_so_once_and_plays_on(ground):
    env = BlackBoxEnv(render_mode="human", **ground.options())
    message = r'render_mode="human" shows nothing: matplotlib finds no display here \(its backend is agg\)'
    with pytest.warns(UserWarning, match=message):
        obs, _ = env.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert env.step(obs["image"])[4]["turn"] == 1
        assert env.render() is None
        env.close()
    assert not pyplot.get_fignums()


def test_a_window_shows_each_step(ground, monkeypatch):
    monkeypatch.setattr(window, "has_display", lambda figure: True)
    pauses = []
    monkeypatch.setattr(pyplot, "pause", pauses.append)
    env = BlackBoxEnv(render_mode="human", **ground.options())
    obs, _ = env.reset()
    (axes,) = pyplot.figure("arena/BlackBox-v0").axes
    before = axes.images[0].get_array().copy()
    env.step(1 - obs["image"])
    after = axes.images[0].get_array()
    assert after.shape == before.shape and (after != before).any() and pauses == [0.25, 0.25]
    assert len(pyplot.get_fignums()) == 1
    env.close()
    assert not pyplot.get_fignums()
