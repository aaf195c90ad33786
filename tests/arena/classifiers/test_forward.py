"""What is fast must answer as the plain network does, and say where it does not run as asked."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.classifiers.forward import Compiled, Forward, Watch, fused, prepare_forward, tensor_float

SHAPE = (3, 8, 8)
CPU = torch.device("cpu")


class Net(nn.Module):
    """A normalisation, a residual block with BatchNorm, a head; `view` needs the channels outermost."""

    def __init__(self, view: bool = False, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head, self.view = nn.Linear(512, 5), view
        for norm in (self.bn1, self.bn2):
            norm.running_mean, norm.running_var = torch.randn(8) / 3, torch.rand(8) + 0.5
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.bn1(self.conv1((x - 0.5) / 0.25)))
        h = torch.relu(self.bn2(self.conv2(h)) + h)
        logits: Tensor = self.head(h.view(h.size(0), -1) if self.view else h.flatten(1))
        return logits


class Branching(Net):
    """What torch.fx cannot trace: control flow by values."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() >= 0 else super().forward(-x)


class Noisy(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e-3 * torch.randn(1, 5)


def ready(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


def images(n: int, seed: int = 1) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def prepared(module: nn.Module, **given: Any) -> Forward:
    return prepare_forward(ready(module), shape=SHAPE, device=CPU, **given)


def classifier(module: nn.Module, **given: Any) -> Classifier:
    return Classifier(ready(module), shape=SHAPE, classes=5, **given)


def batchnorms(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


def test_a_convolutional_network_is_fused_and_channels_last_and_answers_as_in_float64() -> None:
    net = Net()
    forward = prepared(net)
    assert forward.steps == ("fused", "channels-last")
    assert (forward.remarks, batchnorms(forward.module), batchnorms(net)) == ((), 0, 2)
    x = images(6)
    exact = copy.deepcopy(net).double()(x.double())
    torch.testing.assert_close(forward(x).double(), exact, rtol=0, atol=2e-6 * exact.abs().max().item())


@pytest.mark.parametrize(
    ("net", "steps", "remark"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), (), None),
        (Branching(), ("channels-last",), "not fused: TraceError: symbolically traced variables"),
        (Net(view=True), ("fused",), "not channels-last: RuntimeError: view size is not compatible"),
        (Noisy(), (), "runs as it is: its answers to the same images vary"),
        (torch.jit.trace(ready(Net()), images(2)), (), None),
    ],
    ids=["nothing to do", "not traceable", "view", "random", "TorchScript"],
)
def test_what_cannot_be_prepared_is_left_out_and_said(
    net: nn.Module, steps: tuple[str, ...], remark: str | None
) -> None:
    of = classifier(net)
    logits = of(images(6))
    assert of.forward.steps == steps
    assert len(of.remarks) == (remark is not None)
    assert remark is None or of.remarks[0].startswith(remark)
    if not isinstance(net, Noisy):
        torch.testing.assert_close(logits, net(images(6)), rtol=0, atol=1e-5)


def test_a_copy_that_answers_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(forward: Forward) -> Forward:
        found = fused(forward)
        found.module.get_parameter("head.bias")[0] += 1
        return found

    monkeypatch.setattr("arena.classifiers.forward.fused", broken)
    of = classifier(Net())
    x = images(5)
    torch.testing.assert_close(of(x), of.module(x), rtol=0, atol=1e-5)
    assert of.forward.steps == ("channels-last",)
    assert len(of.remarks) == 1
    assert of.remarks[0].startswith("not fused: its logits differ by 1 where the largest is ")


def test_a_convolution_that_two_norms_share_is_not_fused() -> None:
    class Shared(Net):
        def forward(self, x: Tensor) -> Tensor:
            h = self.bn1(self.conv1(x)) + self.bn2(self.conv1(1 - x))
            logits: Tensor = self.head(self.bn2(self.conv2(h)).flatten(1))
            return logits

    net = Shared()
    forward = prepared(net)
    assert (forward.steps, batchnorms(forward.module)) == (("fused", "channels-last"), 2)
    torch.testing.assert_close(forward(images(4)), net(images(4)), rtol=0, atol=1e-5)


def test_values_that_are_not_finite_stay_so() -> None:
    net = Net()
    with torch.no_grad():
        net.head.bias.copy_(torch.tensor([0, torch.nan, torch.inf, -torch.inf, 0]))
    forward = prepared(net)
    assert forward.remarks == ()
    assert torch.equal(forward(images(3)).isnan()[0], torch.tensor([False, True, False, False, False]))


def test_preparing_draws_nothing_and_leaves_the_module_alone() -> None:
    net, noisy = ready(Net()), classifier(Noisy())
    of = classifier(net, precision="bf16")
    state, values = torch.get_rng_state(), copy.deepcopy(net.state_dict())
    of(images(2))
    assert noisy.forward.remarks
    assert torch.equal(torch.get_rng_state(), state)
    assert of.module is net
    for key, value in net.state_dict().items():
        assert torch.equal(value, values[key])
        assert value.dtype == values[key].dtype


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_rows_do_not_depend_on_their_batch_but_for_rounding(precision: Any) -> None:
    of, x = classifier(Net(), precision=precision, batch=64), images(64)
    together, alone = of(x), torch.cat([of(row[None]) for row in x])
    error = {"float32": 2e-6, "bf16": 1e-2}[precision]
    torch.testing.assert_close(together, alone, rtol=0, atol=error * together.abs().max().item())
    torch.testing.assert_close(together[:5], of(torch.cat([x[:5], 1 - x[:7]]))[:5], rtol=0, atol=error * 10)


def test_bf16_rounds_what_enters_a_product_but_not_the_normalisation() -> None:
    exact, rounded = classifier(Net()), classifier(Net(), precision="bf16")
    assert rounded.forward.steps == ("fused", "channels-last", "bf16")
    x = images(32)
    error = (rounded(x) - exact(x)).abs().max().item() / exact(x).abs().max().item()
    assert 1e-4 < error < 3e-2
    assert rounded(x).dtype == torch.float32
    coarse = torch.ones(1, *SHAPE)
    assert torch.equal(rounded(coarse - 1e-4), rounded(coarse))
    assert not torch.equal(exact(coarse - 1e-4), exact(coarse))


def test_bf16_leaves_the_subtraction_of_a_mean_in_float32() -> None:
    """In bf16 0.5 and 0.5001 are the same."""

    class Centred(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward((x - 0.5).flatten(1))

    of = classifier(Centred(192, 5, bias=False), precision="bf16")
    grey = torch.full((1, *SHAPE), 0.5)
    assert torch.equal(of(grey), torch.zeros(1, 5))
    torch.testing.assert_close(of(grey + 1e-4), of.module(grey + 1e-4), rtol=0, atol=1e-6)
    assert of(grey + 1e-4).abs().max() > 1e-5


def test_differentiable_stays_in_the_networks_own_precision() -> None:
    of, x = classifier(Net(), precision="bf16"), images(3)
    assert torch.equal(of.differentiable(x), of.module(x))


@pytest.mark.parametrize(
    ("precision", "told"),
    [
        ("fp16", 'there is no precision "fp16"; allowed: "float32", "tf32", "bf16"'),
        ("tf32", 'precision "tf32" is for CUDA devices; found cpu'),
    ],
)
def test_a_precision_that_there_is_not_is_refused(precision: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        classifier(Net(), precision=precision)


def test_tf32_is_allowed_within_alone() -> None:
    flags: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    for allowed in (True, False):
        with pytest.raises(KeyError), tensor_float(allowed):
            assert [flag.allow_tf32 for flag in flags] == [allowed, allowed]
            raise KeyError
        assert [flag.allow_tf32 for flag in flags] == before


def change_weight(net: Net) -> None:
    with torch.no_grad():
        net.conv1.weight.mul_(2)


def change_statistics(net: Net) -> None:
    net.load_state_dict({**net.state_dict(), "bn2.running_mean": torch.ones(8)})


def change_layer(net: Net) -> None:
    net.head = nn.Linear(512, 5)


def change_parameter(net: Net) -> None:
    net.conv2.bias = nn.Parameter(torch.ones(8), requires_grad=False)


def change_data(net: Net) -> None:
    net.conv1.weight.data = net.conv1.weight.data + 1


@pytest.mark.parametrize(
    "change", [change_weight, change_statistics, change_layer, change_parameter, change_data]
)
def test_a_module_that_changes_is_noticed(change: Any) -> None:
    net, x = Net(), images(4)
    of = classifier(net)
    before, forward = of(x), of.forward
    assert of.forward is forward
    change(net)
    torch.testing.assert_close(of(x), net(x), rtol=1e-5, atol=1e-4)
    assert not torch.allclose(of(x), before, atol=1e-2)
    assert of.forward is not forward


def test_hooks_of_the_module_are_run() -> None:
    """A detector that listens to a layer of the classifier hears it."""
    net, heard = Net(), []
    of = classifier(net)
    of(images(2))
    handle = net.conv2.register_forward_hook(lambda *given: heard.append(given[2].shape[0]))
    of(images(3))
    assert heard == [3]
    assert of.remarks == ("runs as it is: hooks listen to its layers",)
    handle.remove()
    of(images(4))
    assert heard == [3]
    assert of.forward.steps == ("fused", "channels-last")


@pytest.mark.parametrize("again", [copy.deepcopy, lambda of: pickle.loads(pickle.dumps(of))])
def test_a_copy_of_a_classifier_prepares_itself(again: Any) -> None:
    of, x = classifier(Net()), images(4)
    logits = of(x)
    other = again(of)
    change_weight(other.module)
    assert torch.equal(of(x), logits)
    torch.testing.assert_close(other(x), other.module(x), rtol=1e-5, atol=1e-4)


def test_watch_of_weights_made_in_inference_mode() -> None:
    with torch.inference_mode():
        net = Net()
    assert Watch(net).unchanged()


def test_scripts_run_in_the_precision_asked_for() -> None:
    script = torch.jit.trace(ready(Net()), images(2))  # type: ignore[no-untyped-call]
    of, x = classifier(script, precision="bf16"), images(4)
    of(x)
    prepared = of.forward
    assert prepared.steps == ("bf16",) and of.forward is prepared
    torch.testing.assert_close(of(x), script(x), rtol=0, atol=0.1 * float(script(x).abs().max()))
    with torch.no_grad():
        next(script.parameters()).zero_()
    assert of.forward is not prepared


def test_another_classifier_hands_on_what_it_is() -> None:
    first = classifier(Net(), precision="bf16", compile=True)
    first.card, first.remarks = {"licence": "MIT"}, ("from afar",)
    second = Classifier.of(first, sample=images(1))
    assert (second.precision, second.compile) == ("bf16", True)
    assert (second.card, second.remarks) == ({"licence": "MIT"}, ("from afar",))
    third = Classifier.of(first, sample=images(1), precision="float32", compile=False)
    assert (third.precision, third.compile) == ("float32", False)


# Compilation, with a compiler that only counts: the real one takes half a minute


class Sizes:
    """Stands for torch.compile: runs the module as it is and notes the batch sizes and layouts."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bool]] = []

    def __call__(self, module: nn.Module, **given: Any) -> Any:
        assert given == {"dynamic": False, "mode": None}

        def run(x: Tensor) -> Tensor:
            self.seen.append((len(x), x.is_contiguous(memory_format=torch.channels_last)))
            logits: Tensor = module(x)
            return logits

        return run


def test_batches_are_padded_to_powers_of_two_up_to_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = Sizes()
    monkeypatch.setattr(torch, "compile", sizes)
    of, plain = classifier(Net(), compile=True, batch=12), classifier(Net())
    for n in (1, 2, 3, 5, 9, 12, 29):
        x = images(n)
        torch.testing.assert_close(of(x), plain(x), rtol=0, atol=1e-5)
    assert of.forward.steps == ("fused", "channels-last", "compiled")
    assert [size for size, _ in sizes.seen] == [8, 1, 2, 4, 8, 12, 12, 12, 12, 8]
    assert all(laid for _, laid in sizes.seen)


def test_a_compiler_that_fails_leaves_the_copy_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(module: nn.Module, **given: Any) -> Any:
        raise RuntimeError("no C++ compiler\nmuch more")

    monkeypatch.setattr(torch, "compile", fail)
    of, x = classifier(Net(), compile=True), images(4)
    torch.testing.assert_close(of(x), of.module(x), rtol=0, atol=1e-5)
    assert of.remarks == ("not compiled: RuntimeError: no C++ compiler",)


def test_a_network_compiled_for_many_sizes_is_compiled_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo gives up after 8 sizes of the same code unless told otherwise, and goes on uncompiled."""
    built: list[int] = []

    def backend(graph: Any, given: Any) -> Any:
        built.append(len(given[-1]))
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **_: real(module, dynamic=False, backend=backend))
    linear = ready(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)))
    compiled = Compiled(linear, CPU, torch.contiguous_format)
    with torch.inference_mode():
        for n in (*range(1, 13), 700, 1024, 600, 2, 1):
            x = images(n)
            torch.testing.assert_close(compiled(x, None), linear(x), rtol=0, atol=1e-5)
        for power in range(4, 10):
            compiled(images(2**power), None)
    assert len(built) == 11


# On a GPU

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
@pytest.mark.parametrize("compile", [False, True])
def test_on_a_gpu(precision: Any, compile: bool) -> None:
    here = classifier(Net())
    there = classifier(Net(), device="cuda", precision=precision, compile=compile, batch=16)
    x = images(37)
    logits = there(x.cuda()).cpu()
    error = {"float32": 1e-5, "tf32": 1e-2, "bf16": 5e-2}[precision]
    torch.testing.assert_close(logits, here(x), rtol=0, atol=error * logits.abs().max().item())
    assert there.remarks == ()
    assert ("channels-last" in there.forward.steps) == (precision != "float32")


@gpu
def test_float32_on_a_gpu_is_exact_whatever_the_process_allows() -> None:
    of, x = classifier(Net(), device="cuda"), images(32).cuda()
    with tensor_float(False):
        exact = of(x)
    with tensor_float(True):
        assert torch.equal(of(x), exact)
