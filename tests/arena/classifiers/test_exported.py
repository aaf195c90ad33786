"""torch.export programs: read as torch reads them, and never further than tensors go."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import operator
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arena.classifiers import ClassifierError
from arena.classifiers.exported import Exported, read_exported

Members = dict[str, bytes]
GRAPH = "models/model.json"


class Net(nn.Module):
    """Weights, BatchNorm, a buffer, a constant, several outputs of an operator, and sizes computed."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout())
        self.head = nn.Linear(6 * 16, 5)
        self.register_buffer("offset", torch.tensor([0.5]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.body(x - self.offset).max(dim=3).values.chunk(2, dim=1)
        y = torch.cat([first, second], 1).repeat(1, 1, 4)[:, :, :16]
        scale = torch.full((x.shape[0], 1), 2.0, device=x.device)
        logits: Tensor = self.head(y.reshape(x.shape[0], -1)) * scale + torch.tensor(
            [0.0, 1.0, 2.0, 3.0, 4.0]
        )
        return logits


def images(n: int) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(n))


def save(net: nn.Module, path: Path, rows: Any = None, n: int = 2) -> Path:
    torch.manual_seed(0)
    shapes = None if rows is None else ({0: rows},)
    torch.export.save(torch.export.export(net, (images(n),), dynamic_shapes=shapes), path)
    return path


@pytest.fixture(scope="session")
def net() -> nn.Module:
    torch.manual_seed(1)
    net = Net()
    net(torch.rand(20, 3, 8, 8))  # statistics of its own
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def program(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(net, tmp_path_factory.mktemp("pt2") / "net.pt2", torch.export.Dim("n", max=64))


def rewritten(path: Path, target: Path, change: Callable[[Members], None]) -> Path:
    """The archive with other members."""
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{root}/{name}", data)
    return target


def edit(member: str, change: Callable[[Any], None]) -> Callable[[Members], None]:
    def apply(members: Members) -> None:
        held = json.loads(members[member])
        change(held)
        members[member] = json.dumps(held).encode()

    return apply


def refused(path: Path, told: str) -> None:
    with pytest.raises(ClassifierError, match=told) as caught:
        read_exported(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_answers_as_the_network_it_was_made_of(net: nn.Module, program: Path) -> None:
    found = read_exported(program)
    assert (found.takes, found.batch) == ((3, 8, 8), (1, 64))
    for n in (1, 2, 7):
        assert torch.allclose(found.network(images(n)), net(images(n)), atol=1e-6)
    assert torch.allclose(
        copy.deepcopy(found.network)(images(3)), torch.export.load(program).module()(images(3)), atol=1e-6
    )


def test_it_is_differentiable_and_moves_as_a_module(net: nn.Module, program: Path) -> None:
    found = read_exported(program).network
    x, same = images(2).requires_grad_(), images(2).requires_grad_()
    found(x)[:, 1].sum().backward()
    net(same)[:, 1].sum().backward()
    assert x.grad is not None
    assert same.grad is not None
    assert torch.allclose(x.grad, same.grad, atol=1e-6)
    assert found.double()(images(2).double()).dtype == torch.float64
    assert (
        not found.to("meta")(images(2).to("meta")).to("meta").is_cpu
    )  # devices in the graph are the input's
    assert {key for key, _ in found.named_parameters()} != set()


def test_its_own_modes_are_left_alone(program: Path) -> None:
    network = read_exported(program).network.train()
    assert torch.equal(network(images(3)), network.eval()(images(3)))


def test_a_fixed_batch_is_known(net: nn.Module, tmp_path: Path) -> None:
    found = read_exported(save(net, tmp_path / "f.pt2", n=4))
    assert found.batch == (4, 4)
    assert torch.allclose(found.network(images(4)), net(images(4)), atol=1e-6)


def test_the_sha_is_that_of_the_file(program: Path, tmp_path: Path) -> None:
    def shas(path: Path) -> Exported:
        return read_exported(path)

    other = rewritten(program, tmp_path / "o.pt2", lambda members: members.update(extra=b"1"))
    assert shas(other).sha != shas(program).sha


def test_training_mode_is_refused(tmp_path: Path) -> None:
    dropout = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(192, 3)).train()
    refused(save(dropout, tmp_path / "d.pt2"), r"in training mode \(aten\.dropout\.default\)")
    batchnorm = nn.Sequential(nn.Conv2d(3, 2, 8), nn.BatchNorm2d(2), nn.Flatten()).train()
    refused(save(batchnorm, tmp_path / "b.pt2"), "in training mode|change nothing of its own")


def use_pickle(bait: Any) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        def mark(held: Any) -> None:
            next(iter(held["config"].values()))["use_pickle"] = True

        edit("data/weights/model_weights_config.json", mark)(members)
        buffer = io.BytesIO()
        torch.save(bait, buffer)
        members["data/weights/weight_0"] = buffer.getvalue()

    return change


def constant(name: str, bait: Any) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        def mark(held: Any) -> None:
            entry = {"path_name": name, "is_param": False, "use_pickle": True, "tensor_meta": None}
            held["config"]["more"] = entry

        edit("data/constants/model_constants_config.json", mark)(members)
        members[f"data/constants/{name}"] = pickle.dumps(bait)

    return change


def legacy(kind: str, bait: Any) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        buffer = io.BytesIO()
        torch.save({"x": bait}, buffer)
        members[f"data/{kind}/model.pt"] = buffer.getvalue()

    return change


def test_torchs_own_reader_would_run_it(program: Path, tmp_path: Path, sprung: Any) -> None:
    """What the next tests would miss were they to try something harmless."""
    path = rewritten(program, tmp_path / "m.pt2", use_pickle(sprung))
    with contextlib.suppress(Exception):  # it stumbles when the harm is done
        torch.export.load(path)
    assert sprung.path.exists()


@pytest.mark.parametrize("place", ["weight", "tensor_9", "custom_obj_0", "opaque_obj_0"])
def test_a_pickle_among_weights_or_constants_is_refused(
    program: Path, tmp_path: Path, bait: Any, place: str
) -> None:
    change = use_pickle(bait) if place == "weight" else constant(place, bait)
    refused(
        rewritten(program, tmp_path / "m.pt2", change), "as a pickle or an object of its own .* is not read"
    )


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_a_pickle_of_an_older_archive_is_read_as_tensors_alone(
    program: Path, tmp_path: Path, bait: Any, kind: str
) -> None:
    path = rewritten(program, tmp_path / "m.pt2", legacy(kind, bait))
    refused(path, f"keeps its {kind} in a pickle of more than tensors: it is not read")


def test_members_that_are_not_needed_are_never_opened(
    net: nn.Module, program: Path, tmp_path: Path, bait: Any
) -> None:
    def change(members: Members) -> None:
        buffer = io.BytesIO()
        torch.save(((bait,), {}), buffer)
        members["data/sample_inputs/model.pt"] = buffer.getvalue()
        members["data/aotinductor/model/model.so"] = b"\x7fELF"
        members["extra/pickle"] = pickle.dumps(bait)
        members["data/weights/weight_99"] = pickle.dumps(bait)

    found = read_exported(rewritten(program, tmp_path / "m.pt2", change))
    assert torch.allclose(found.network(images(2)), net(images(2)), atol=1e-6)


def test_text_in_a_graph_is_never_evaluated(net: nn.Module, program: Path, tmp_path: Path, bait: Any) -> None:
    code = f"__import__('os').mkdir({str(bait.path)!r})"

    def change(held: Any) -> None:
        held["guards_code"] = [code]
        graph = held["graph_module"]["graph"]
        for value in graph["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = f"s77 + {code}"
        call = held["graph_module"]["module_call_graph"][0]["signature"]
        call["forward_arg_names"] = [f"x={code}"]
        for node in graph["nodes"]:
            node["name"] = f"a):\n    {code}\n#"
            node["metadata"] = {"stack_trace": code, "nn_module_stack": f"L,{code},{code}", "torch_fn": code}

    path = rewritten(program, tmp_path / "m.pt2", edit(GRAPH, change))
    assert torch.allclose(read_exported(path).network(images(2)), net(images(2)), atol=1e-6)


@pytest.mark.parametrize(
    "target",
    [
        "torch.serialization.os.mkdir",
        "torch.load",
        "torch.hub.load",
        "_operator.methodcaller",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten._sparse_coo_tensor_unsafe.default",
        "torch.ops.aten.__class__.default",
        "torch.ops.aten.add.__init__",
        "torch.ops.inductor.resize_storage_bytes_.default",
        "torch.ops.higher_order.cond",
        "math.trunc",
        "os.mkdir",
        "#custom:op",
    ],
)
def test_a_graph_calls_nothing_but_operators_on_tensors(
    program: Path, tmp_path: Path, bait: Any, target: str
) -> None:
    def change(held: Any) -> None:
        node = held["graph_module"]["graph"]["nodes"][0]
        node["target"] = target
        node["inputs"] = [{"name": "path", "arg": {"as_string": str(bait.path)}, "kind": 1}]

    path = rewritten(program, tmp_path / "m.pt2", edit(GRAPH, change))
    refused(path, "calls .*, which is no operator on tensors that is allowed: it is not read")


def without(*path: Any) -> Callable[[Any], None]:
    def change(held: Any) -> None:
        for key in path[:-1]:
            held = held[key]
        operator.delitem(held, path[-1])

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            edit(GRAPH, without("graph_module", "graph", "nodes", 3)),
            "cannot be read as a program .*: KeyError",
        ),
        (edit(GRAPH, without("graph_module", "signature")), "cannot be read as a program of torch.export"),
        (edit(GRAPH, lambda held: held["schema_version"].update(major=99)), "is of schema version 99"),
        (
            lambda members: members.pop(GRAPH),
            "holds no program that torch.export of torch 2.8 or newer wrote",
        ),
        (lambda members: members.update({"models/b.json": b"{}"}), "holds several programs"),
        (lambda members: members.update({GRAPH: b"[" * 100_000}), "cannot be read as a program"),
        (lambda members: members.update({"data/weights/weight_0": b"1234"}), "cannot be read as a program"),
        (lambda members: members.pop("data/weights/weight_1"), "cannot be read as a program"),
    ],
)
def test_a_program_that_does_not_hold_together_is_told(
    program: Path, tmp_path: Path, change: Callable[[Members], None], told: str
) -> None:
    refused(rewritten(program, tmp_path / "m.pt2", change), told)


def test_a_damaged_file_is_told(program: Path, tmp_path: Path) -> None:
    content = program.read_bytes()
    path = tmp_path / "d.pt2"
    path.write_bytes(content[:-300])
    refused(path, "is cut short, damaged or no such file: its end is missing")
    place = content.find(b'"graph_module"')
    path.write_bytes(content[:place] + b'"Graph_module"' + content[place + 14 :])
    refused(path, "is cut short, damaged or no such file: Bad CRC-32")


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x.flatten(1) + y.flatten(1)


def test_other_inputs_are_told(tmp_path: Path) -> None:
    path = tmp_path / "two.pt2"
    torch.export.save(torch.export.export(Two(), (images(2), images(2))), path)
    refused(path, r"must take one tensor, images \[n,C,H,W\]; it takes 2 inputs")
    flat = torch.export.export(nn.Linear(3, 2), (torch.rand(2, 3),))
    torch.export.save(flat, path)
    refused(path, r"must take float32 images \[n,C,H,W\]; it takes torch.float32 with 2 axes")
