from __future__ import annotations

from pathlib import Path

import pytest
import torch

from arena.classifiers import ClassifierError
from arena.datasets import Dataset, Split
from arena.training import RECIPES, TrainingError, TrainingJob, train
from arena.training.job import channel_statistics

QUICK = RECIPES["quick"].recipe


def test_the_network_has_the_data_sets_classes(data: Dataset) -> None:
    job = TrainingJob("digits-cnn", data, QUICK)
    assert job.whole_params == {"classes": 10}
    network, _, _ = job.build()
    assert network.training and all(p.requires_grad for p in network.parameters())


def test_a_users_own_module_is_left_as_it_was(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ready.py").write_text(
        "from torch import nn\nnet = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_(False)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    job = TrainingJob("ready:net", data, QUICK.changed({"epochs": 1}))
    import ready  # type: ignore[import-not-found]

    before = ready.net[1].weight.clone()
    trained = train(job)
    assert torch.equal(ready.net[1].weight, before) and not ready.net[1].weight.requires_grad
    assert not torch.equal(trained.network[1].weight, before)  # type: ignore[index]


@pytest.mark.parametrize(
    ("network", "params", "error", "said"),
    [
        (
            "resnet20",
            {},
            TrainingError,
            'network "resnet20" does not fit data set "digits" with images [1, 8, 8]',
        ),
        ("resnet20", {}, TrainingError, "it is made for [3, 32, 32]"),
        ("digits-cnn", {"classes": 11}, TrainingError, "with logits [2, 10], not [2, 11]"),
        ("digits-cnn", {"clases": 11}, ClassifierError, 'did you mean "classes"'),
        ("digit-cnn", {}, ClassifierError, 'did you mean "digits-cnn"'),
        ("torch.nn:Flatten", {}, TrainingError, "with logits [2, 10], not [2, 64]"),
        ("nowhere.at:all", {}, ClassifierError, "cannot be imported"),
    ],
)
def test_what_does_not_fit_gets_a_sentence(
    data: Dataset, network: str, params: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        TrainingJob(network, data, QUICK, params=params).build()
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_network_without_parameters_is_refused(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "still.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d((2, 5)), nn.Flatten())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TrainingError, match="has no parameters to train"):
        TrainingJob("still:net", data, QUICK, trusted=["still:net"]).build()


def test_reduced_precision_is_for_cuda(data: Dataset) -> None:
    with pytest.raises(TrainingError, match='precision: found "bf16" on cpu'):
        TrainingJob("digits-cnn", data, QUICK.changed({"precision": "bf16"}))


def test_normalisation_is_the_entrys_or_the_train_splits(data: Dataset) -> None:
    _, *entry = TrainingJob("digits-cnn", data, QUICK).build()
    assert entry == [[0.0], [1.0]]
    _, mean, std = TrainingJob("digits-cnn", data, QUICK.changed({"normalise": "train"})).build()
    assert mean == [round(float(data.train.images.double().mean()), 4)]
    assert std == [round(float(data.train.images.double().std(correction=0)), 4)]


def test_statistics_are_each_channels() -> None:
    x = torch.randint(256, (300, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x[:, 2] = 51
    split = Split(x, torch.arange(10, 290), torch.zeros(280, dtype=torch.int64))
    mean, std = channel_statistics(split)
    part = x[10:290].double() / 255
    assert mean == pytest.approx(part.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert std[:2] == pytest.approx(part.std((0, 2, 3), correction=0).tolist()[:2], abs=1e-4)
    assert std[2] == 1.0
