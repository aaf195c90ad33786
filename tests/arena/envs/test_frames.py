from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from PIL import ImageDraw

from arena.envs import BlackBoxEnv
from arena.envs.frames import frame


@pytest.fixture
def texts(monkeypatch):
    """What pictures say, as it is drawn."""
    said = []
    draw = ImageDraw.ImageDraw.text

    def text(self, place, words, *rest):
        said.append(words)
        return draw(self, place, words, *rest)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return said


def shown(env, texts):
    texts.clear()
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert picture.shape[0] % 16 == 0 == picture.shape[1] % 16
    return picture, list(texts)


def test_the_pictures_and_words_of_a_game(ground, texts):
    env = BlackBoxEnv(render_mode="rgb_array", **ground.options(epsilon=0.25, objective="minimum"))
    with pytest.raises(ResetNeeded, match="there is no game to show"):
        env.render()
    obs, _ = env.reset()
    before, said = shown(env, texts)
    assert {"sent", "difference: none", "nothing was asked yet", "query 0 of 6, 6 left", "no hit yet"} <= {
        *said
    }
    assert f"clean: {obs['label']}" in said and "linf 0 of 0.25" in said
    image = obs["image"].copy()
    image[0, 0, 0] += 0.25 if image[0, 0, 0] < 0.5 else -0.25
    seen, *_ = env.step(image)
    after, said = shown(env, texts)
    scores = seen["answer_scores"]
    margin = scores[obs["label"]] - np.delete(scores, obs["label"]).max()
    assert f"answered: {seen['answer_label']}, margin {margin:.3g} (below 0 wins)" in said
    assert {"difference x 1.99", "linf 0.25 of 0.25", "query 1 of 6, 5 left"} <= {*said}
    top = np.argsort(-scores)
    assert [w for w in said if ": " in w and w[0].isdigit()] == [f"{k}: {scores[k]:.3g}" for k in top]
    # Side by side, each 160 pixels wide, 20 a pixel; the difference is grey but for the pixel that changed.
    clean, sent, difference = (after[24:184, 8 + i * 168 :][:, :160, 0] for i in range(3))
    assert (clean[::20, ::20] == np.rint(obs["image"][0] * 255)).all()
    assert (sent[::20, ::20] == np.rint(image[0] * 255)).all()
    assert (
        difference[0, 0] in (255, 1) and (difference[20:] == 128).all() and (difference[:, 20:] == 128).all()
    )
    assert before.shape == after.shape


def test_no_more_is_shown_than_the_attacker_is_told(ground, defenders, texts):
    env = BlackBoxEnv(
        render_mode="rgb_array",
        defender=defenders["patience"](1),
        **ground.options(feedback="label", budget=2),
    )
    obs, _ = env.reset()
    env.step(1 - obs["image"])
    _, said = shown(env, texts)
    assert not any("margin" in words for words in said) and any("outside the ball" in words for words in said)
    env.step(obs["image"])
    _, said = shown(env, texts)
    assert {"refused", "ended: budget"} <= {*said} and not any("answered" in words for words in said)
    top = BlackBoxEnv(render_mode="rgb_array", **ground.options(feedback="topk:2", goal="targeted"))
    obs, _ = top.reset()
    seen, *_ = top.step(obs["image"])
    _, said = shown(top, texts)
    assert f"answered: {seen['answer_label']}" in said and f"target: {obs['target']}" in said


def test_other_images_and_numbers_of_classes(ground):
    seen = ground.vector(1, norm="l2", epsilon="inf", objective="minimum")
    obs = {name: part[0] for name, part in seen.reset()[0].items()}
    for shape in ((1, 8, 8), (3, 32, 32), (3, 224, 200), (2, 30, 40)):
        x = np.random.default_rng(0).random(shape, np.float32)
        for classes in (2, 1000):
            scores = np.linspace(1, 0, classes, dtype=np.float32)
            told = obs | {
                "label": 0,
                "image": x,
                "answer_scores": scores,
                "has_scores": 1,
                "answered": 1,
                "has_label": 1,
            }
            picture = frame(told, x / 2, seen.threat, None)
            assert picture.shape[1] >= 3 * max(160, shape[2]) and len(np.unique(picture)) > 5


def test_the_vector_environment_gives_a_picture_of_each(ground):
    env = gymnasium.make_vec("arena/BlackBox-v0", num_envs=3, render_mode="rgb_array", **ground.options())
    env.reset()
    pictures = env.render()
    assert len(pictures) == 3 and (pictures[0] != pictures[1]).any()
    assert ground.vector().render() is None


def test_record_video(ground, tmp_path):
    pytest.importorskip("moviepy", reason='moviepy is not installed (pip install "blackbox-arena[video]")')
    env = gymnasium.make("arena/BlackBox-v0", render_mode="rgb_array", **ground.options(budget=2))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Overwriting existing videos")
        video = gymnasium.wrappers.RecordVideo(env, str(tmp_path), disable_logger=True)
    obs, _ = video.reset()
    for _ in range(2):
        video.step(obs["image"])
    video.close()
    (file,) = tmp_path.glob("*.mp4")
    assert file.stat().st_size > 1000
