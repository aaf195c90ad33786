from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from arena.classifiers import Classifier, ClassifierError
from arena.classifiers.programs import Program, read_program

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
CPU = torch.device("cpu")
WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)


def images(n: int) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(n))


def expected(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3)) @ torch.from_numpy(WEIGHT).T


def model(
    rows: int | str = "n",
    shape: tuple[Any, ...] = (3, 8, 8),
    kind: str = "FLOAT",
    outputs: tuple[str, ...] = ("y",),
    inputs: tuple[str, ...] = ("x",),
) -> Any:
    """The mean of each channel times WEIGHT [4,3]; further inputs and outputs are copies."""
    make, dtype = onnx.helper, getattr(onnx.TensorProto, kind)
    array = WEIGHT.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype))
    nodes = [
        make.make_node("ReduceMean", ["x"], ["p"], axes=[2, 3], keepdims=0),
        make.make_node("Gemm", ["p", "w"], ["y"], transB=1),
        *(make.make_node("Identity", ["y"], [name]) for name in outputs[1:]),
    ]
    graph = make.make_graph(
        nodes,
        "g",
        [make.make_tensor_value_info(name, dtype, [rows, *shape]) for name in inputs],
        [make.make_tensor_value_info(name, dtype, [rows, 4]) for name in outputs],
        [onnx.numpy_helper.from_array(array, "w")],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)


def write(made: Any, path: Path) -> Path:
    onnx.save(made, str(path))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.onnx"


def read(path: Path) -> Program:
    return read_program(path, CPU)


def refused(path: Path, told: str) -> None:
    with pytest.raises(ClassifierError, match=told) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rows", ["n", 1, 4])
def test_models_of_any_batch_answer_as_they_should(path: Path, rows: int | str) -> None:
    program = read(write(model(rows), path))
    assert program.takes == (3, 8, 8)
    assert program.batch == ((1, None) if rows == "n" else (rows, rows))
    classifier = Classifier.of(program, sample=images(1), batch=5)
    for n in (1, 4, 7, 11):
        assert torch.allclose(classifier(images(n)), expected(images(n)), atol=1e-5)


@pytest.mark.parametrize("kind", ["FLOAT16", "DOUBLE"])
def test_other_precisions_are_cast(path: Path, kind: str) -> None:
    answered = read(write(model(kind=kind), path))(images(3))
    assert answered.dtype == torch.float32
    assert torch.allclose(answered, expected(images(3)), atol=2e-2)


def test_strided_images_are_taken(path: Path) -> None:
    x = images(3).contiguous(memory_format=torch.channels_last)
    assert torch.allclose(read(write(model(), path))(x), expected(x), atol=1e-5)


def test_free_axes_and_metadata(path: Path) -> None:
    made = model(shape=(3, "h", "w"))
    onnx.helper.set_model_props(made, {"source": "here"})
    program = read(write(made, path))
    assert program.takes == (3, None, None)
    assert program.card == {"source": "here"}


def test_it_gives_no_gradients(path: Path) -> None:
    classifier = Classifier.of(read(write(model(), path)), sample=images(1))
    with pytest.raises(ClassifierError, match=r"m\.onnx gives no gradients"):
        classifier.differentiable(images(1).requires_grad_())


def test_the_file_is_in_the_fingerprint(path: Path) -> None:
    def sha() -> str:
        return Classifier.of(read(path), sample=images(1)).sha

    first = write(model(), path) and sha()
    assert first == sha()
    write(model(rows=2), path)
    assert sha() != first


def test_a_copy_shares_the_session(path: Path) -> None:
    program = read(write(model(), path))
    assert torch.equal(copy.deepcopy(program)(images(2)), program(images(2)))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"outputs": ("y", "z")}, "must have one output; found y, z"),
        ({"inputs": ("x", "more")}, "must have one input; found x, more"),
    ],
)
def test_other_models_are_told(path: Path, given: dict[str, Any], told: str) -> None:
    refused(write(model(**given), path), told)


def test_other_types_and_axes_are_told(path: Path) -> None:
    make, kinds = onnx.helper, onnx.TensorProto
    flat = make.make_graph(
        [make.make_node("Identity", ["x"], ["y"])],
        "g",
        [make.make_tensor_value_info("x", kinds.FLOAT, ["n", 3])],
        [make.make_tensor_value_info("y", kinds.FLOAT, ["n", 3])],
    )
    write(make.make_model(flat, opset_imports=[make.make_opsetid("", 17)], ir_version=8), path)
    refused(path, r"x must be images \[n,C,H,W\]; found \['n', 3\]")
    whole = make.make_graph(
        [make.make_node("Cast", ["x"], ["y"], to=kinds.FLOAT)],
        "g",
        [make.make_tensor_value_info("x", kinds.UINT8, ["n", 3, 8, 8])],
        [make.make_tensor_value_info("y", kinds.FLOAT, ["n", 3, 8, 8])],
    )
    write(make.make_model(whole, opset_imports=[make.make_opsetid("", 17)], ir_version=8), path)
    refused(path, r"input x must be floating-point; found tensor\(uint8\)")


def test_tensors_in_other_files_are_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(model(), str(path), save_as_external_data=True, location="beside.bin", size_threshold=0)
    refused(path, "keeps tensors in other files")


def test_nor_are_they_read_where_the_entry_is_written_in_another_order(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fields of a protocol buffer may stand in any order: the location's value before its key."""
    monkeypatch.chdir(tmp_path)
    WEIGHT.tofile(tmp_path / "beside.bin")
    made = model()
    kept = made.graph.initializer[0]
    kept.ClearField("raw_data")
    kept.data_location = onnx.TensorProto.EXTERNAL
    kept.external_data.add(key="location", value="beside.bin")
    key, value = b"\x0a\x08location", b"\x12\x0abeside.bin"
    content = made.SerializeToString()
    assert key + value in content
    path.write_bytes(content.replace(key + value, value + key))
    refused(path, "cannot be read as ONNX: .*[Ee]xternal data")


@pytest.mark.parametrize("content", [b"noise" * 50, b"<html>", b"", "cut", "pickle"])
def test_damaged_files_are_told(path: Path, bait: Any, content: bytes | str) -> None:
    if content == "cut":
        content = write(model(), path).read_bytes()[:-60]
    if content == "pickle":
        torch.save(bait, path)
    else:
        assert isinstance(content, bytes)
        path.write_bytes(content)
    refused(path, "cannot be read as ONNX: |is a web page|is empty")


def test_without_onnxruntime_the_extra_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(model(), path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refused(path, r"needs onnxruntime, which is not installed: install blackbox-arena\[onnx\]")


def test_cuda_is_asked_for_where_it_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In exact arithmetic: its default would be TF32."""
    import onnxruntime

    asked: list[Any] = []
    session = onnxruntime.InferenceSession

    def open_session(content: bytes, options: Any, providers: list[Any]) -> Any:
        asked.append(providers)
        return session(content, options, providers=["CPUExecutionProvider"])

    write(model(), path)
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    (remark,) = read_program(path, torch.device("cuda:1")).remarks
    assert "runs on the CPU" in remark
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert read_program(path, torch.device("cuda:1")).remarks == ()
    cuda = ("CUDAExecutionProvider", {"device_id": 1, "use_tf32": 0})
    assert asked == [["CPUExecutionProvider"], [cuda, "CPUExecutionProvider"]]
