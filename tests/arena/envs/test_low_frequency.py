from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from arena.envs import BlackBoxEnv, LowFrequency, VectorLowFrequency
from arena.envs.low_frequency import Patterns
from arena.rules.moves import VolleyError


def box(*shape):
    return gymnasium.spaces.Box(-1, 1, shape, np.float32)


def test_superpixels_fill_the_image():
    patterns = Patterns(box(1, 4, 5), 2, "superpixels")
    small = np.float32([[[1, -0.5], [0.25, 3]]])
    assert patterns.space == box(1, 2, 2)
    top, bottom = [1, 1, 1, -0.5, -0.5], [0.25, 0.25, 0.25, 1, 1]
    assert patterns.action(small).tolist() == [[top, top, bottom, bottom]]
    assert torch.equal(patterns.action(torch.from_numpy(small)), torch.from_numpy(patterns.action(small)))
    whole = Patterns(box(3, 4, 4), 4, "superpixels")
    pixels = np.random.default_rng(0).uniform(-1, 1, (5, 3, 4, 4)).astype(np.float32)
    assert (whole.action(pixels) == pixels).all()


def test_dct_patterns_hold_the_lowest_cosines_alone():
    patterns = Patterns(box(1, 8, 8), 3, "dct")
    small = np.random.default_rng(0).uniform(-1, 1, (4, 1, 3, 3)).astype(np.float32)
    pattern = patterns.action(small)
    assert pattern.dtype == np.float32 and pattern.shape == (4, 1, 8, 8)
    peak = abs(pattern).max((1, 2, 3))
    assert np.allclose(peak, abs(small).max((1, 2, 3)))
    scipy_fft = pytest.importorskip("scipy.fft")
    spectrum = scipy_fft.dctn(pattern, type=2, axes=(2, 3))
    assert abs(spectrum[:, :, 3:]).max() < 1e-4 and abs(spectrum[..., 3:]).max() < 1e-4
    norms = 8 * np.outer([2, 1, 1], [2, 1, 1]) * 8  # of the cosines, in SciPy's DCT-II
    ratio = spectrum[:, :, :3, :3] / norms / small
    assert np.allclose(ratio, ratio[:, :, :1, :1], rtol=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (patterns.action(small) == pattern).all()
    constant = patterns.action(np.float32([[[0.5, 0, 0], [0, 0, 0], [0, 0, 0]]]))
    assert np.allclose(constant, 0.5)
    assert not patterns.action(np.zeros((1, 3, 3), np.float32)).any()


@pytest.mark.parametrize("basis", ["superpixels", "dct"])
def test_the_single_environment_wrapped(ground, basis):
    options = ground.options(objective="submit", accounts=2) | {"action": "perturbation"}
    env = LowFrequency(gymnasium.make("arena/BlackBox-v0", **options), size=2, basis=basis)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*is different from the unwrapped version")
        check_env(env, skip_render_check=True)
    assert env.action_space["perturbation"] == box(1, 2, 2)
    assert {*env.action_space} == {"perturbation", "submit", "account"}
    env.reset(seed=0)
    env.action_space.seed(0)
    assert env.step(env.action_space.sample() | {"submit": 0})[4]["turn"] == 1
    assert env.spec.make().action_space == env.action_space


def test_the_vector_environment_wrapped(ground):
    envs = VectorLowFrequency(ground.vector(action="perturbation"), size=2)
    assert envs.action_space == box(4, 1, 2, 2)
    envs.reset()
    envs.action_space.seed(0)
    action = envs.action_space.sample()
    *_, info = envs.step(action, send=[0, 1, 1, 1])
    assert info["turn"].tolist() == [0, 1, 1, 1]
    plain = ground.vector(action="perturbation")
    plain.reset()
    seen, *_ = plain.step(action.repeat(4, 2).repeat(4, 3))
    again = VectorLowFrequency(ground.vector(action="perturbation"), size=2)
    again.reset()
    assert (seen["answer_scores"] == again.step(action)[0]["answer_scores"]).all()


def test_what_does_not_fit(ground):
    with pytest.raises(ValueError, match='an environment with action="perturbation" is needed'):
        LowFrequency(BlackBoxEnv(**ground.options()))
    perturbing = ground.vector(action="perturbation")
    for options, message in (
        ({"size": 9}, "size must be from 1 to 8; found 9"),
        ({"size": 0}, "size must be from 1 to 8; found 0"),
        ({"basis": "wavelets"}, "basis must be .superpixels. or .dct.; found .wavelets."),
    ):
        with pytest.raises(ValueError, match=message):
            VectorLowFrequency(perturbing, **options)
    envs = VectorLowFrequency(perturbing)
    envs.reset()
    for action in (np.zeros((4, 1, 8, 8), np.float32), [0.0]):
        with pytest.raises(
            VolleyError, match=r"perturbation must be an array or a tensor \[1, 4, 4\]; found"
        ):
            envs.step(action)
