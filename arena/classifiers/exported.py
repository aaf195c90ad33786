"""Programs of torch.export, read without torch's own loader.

torch.export.load unpickles what an archive asks it to, evaluates its shape expressions and calls any function
of torch that its graph names, so it is safe only with trusted files. Here the graph is read as JSON and
rebuilt from tensor operators (aten) only, its weights are read as plain bytes, and the members that hold
pickles (sample inputs, opaque constants), guards and compiled code are never opened.
"""

from __future__ import annotations

import io
import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from arena.classifiers.errors import ClassifierError
from arena.classifiers.files import read_archive
from arena.messages import in_short

DENIED = re.compile("from_file|save|load|.*sparse.*")
"""Operators of torch that access files, and all operators on sparse tensors: some of those take indices
unchecked, and so could write anywhere in the process's memory."""
_MAJOR = 8  # of the schema of torch.export's files, since torch 2.4
_DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in (
            "add",
            "sub",
            "mul",
            "truediv",
            "floordiv",
            "mod",
            "neg",
            "eq",
            "ne",
            "lt",
            "le",
            "gt",
            "ge",
        )
    },
    "_operator.and_": operator.and_,
    "_operator.or_": operator.or_,
    "torch.sym_int": torch.sym_int,
    "torch.sym_float": torch.sym_float,
    "torch.sym_max": torch.sym_max,
    "torch.sym_min": torch.sym_min,
    "torch.sym_not": torch.sym_not,
}
_CHECKS = re.compile(r"torch\.ops\.aten\.(_assert_\w+|sym_constrain_range\w*)\.\w+")


@dataclass(frozen=True)
class Exported:
    """A program of torch.export.

    Attributes:
        network: the graph over its own weights.
        takes: the shape of its images, None if it is free.
        batch: the fewest and the most rows of a call.
        sha: SHA-256 of the file.
    """

    network: nn.Module
    takes: tuple[int | None, ...]
    batch: tuple[int, int | None]
    sha: str


def read_exported(path: Path) -> Exported:
    """Read a .pt2 file; ClassifierError if it is damaged, of another kind, or does more than compute."""
    what = f"program {path}"
    archive = read_archive(path, "program")
    members = archive.members
    names = [name for name in members if name.startswith("models/") and name.endswith(".json")]
    if len(names) != 1:
        kind = "several programs" if names else "no program that torch.export of torch 2.8 or newer wrote"
        raise ClassifierError(f"{what} holds {kind}: save it again with torch.export.save")
    try:
        program = json.loads(members[names[0]])
        if (major := program["schema_version"]["major"]) != _MAJOR:
            raise ClassifierError(f"{what} is of schema version {major}; only version {_MAJOR} is known")
        name = names[0].removeprefix("models/").removesuffix(".json")
        reader = _Reader(program["graph_module"], _Store(members, name, what), what)
        takes, batch = reader.images(program["range_constraints"])
        return Exported(reader.module(), takes, batch, archive.sha)
    except ClassifierError:
        raise
    except Exception as error:  # an untrusted file: any exception may come
        reason = in_short(error)
        raise ClassifierError(f"{what} cannot be read as a program of torch.export: {reason}") from error


class _Store:
    """The weights and constants of an archive, by the names that its graph knows them by."""

    def __init__(self, members: Mapping[str, bytes], model: str, what: str) -> None:
        self.members, self.model, self.what = members, model, what

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """All of `kind`, "weights" or "constants"."""
        folder = f"data/{kind}/"
        whole = self.members.get(f"{folder}{self.model}.pt")
        if whole is not None:  # how torch 2.8 kept them
            return self._pickled(whole, kind)
        listed = json.loads(self.members[f"{folder}{self.model}_{kind}_config.json"])["config"]
        return {key: self._tensor(key, entry, folder) for key, entry in listed.items()}

    def _pickled(self, data: bytes, kind: str) -> dict[str, Tensor]:
        try:
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:
            raise ClassifierError(
                f"{self.what} keeps its {kind} in a pickle of more than tensors: it is not read"
            ) from error
        return {key: value for key, value in found.items() if isinstance(value, Tensor)}

    def _tensor(self, key: str, entry: Mapping[str, Any], folder: str) -> Tensor:
        if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
            raise ClassifierError(
                f"{self.what} keeps {key} as a pickle or an object of its own ({entry['path_name']}): it is "
                f"not read"
            )
        meta = entry["tensor_meta"]
        size, stride = ([axis["as_int"] for axis in meta[name]] for name in ("sizes", "strides"))
        data = self.members[f"{folder}{entry['path_name']}"]
        dtype = _DTYPES[meta["dtype"]]
        flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
        tensor = torch.as_strided(flat, size, stride, meta["storage_offset"]["as_int"])
        return nn.Parameter(tensor, requires_grad=False) if entry["is_param"] else tensor


class _Reader:
    """Rebuilds a graph, with names of our own, out of tensor operators."""

    def __init__(self, serialized: Mapping[str, Any], store: _Store, what: str) -> None:
        self.serialized, self.store, self.what = serialized, store, what
        self.graph, self.names = fx.Graph(), {}  # type: tuple[fx.Graph, dict[str, fx.Node]]
        self.kept: dict[str, Tensor] = {}
        given = [spec for spec in serialized["signature"]["input_specs"] if "user_input" in spec]
        if len(given) != 1 or "as_tensor" not in given[0]["user_input"]["arg"]:
            raise ClassifierError(
                f"{what} must take one tensor, images [n,C,H,W]; it takes {len(given)} inputs"
            )
        self.image: str = given[0]["user_input"]["arg"]["as_tensor"]["name"]

    def images(
        self, ranges: Mapping[str, Mapping[str, int | None]]
    ) -> tuple[tuple[int | None, ...], tuple[int, int | None]]:
        """The shape [C,H,W] of the images that the graph takes, and the fewest and most rows."""
        meta = self.serialized["graph"]["tensor_values"][self.image]
        if meta["dtype"] != 7 or len(meta["sizes"]) != 4:
            found = f"{_DTYPES.get(meta['dtype'], 'another type')} with {len(meta['sizes'])} axes"
            raise ClassifierError(f"{self.what} must take float32 images [n,C,H,W]; it takes {found}")
        rows, *shape = (axis.get("as_int") for axis in meta["sizes"])
        if rows is not None:
            return tuple(shape), (rows, rows)
        symbol = re.search(r"s\d+", meta["sizes"][0]["as_expr"]["expr_str"])
        limits = ranges.get(symbol[0], {}) if symbol else {}
        return tuple(shape), (max(1, limits.get("min_val") or 1), limits.get("max_val"))

    def module(self) -> nn.Module:
        x = self.graph.placeholder("x")
        self.device = self.graph.call_function(getattr, (x, "device"))
        self.names[self.image] = x
        self._keep()
        for node in self.serialized["graph"]["nodes"]:
            self._node(node)
        specs = self.serialized["signature"]["output_specs"]
        if len(specs) != 1 or "user_output" not in specs[0]:
            kinds = ", ".join(next(iter(spec)) for spec in specs)
            raise ClassifierError(
                f"{self.what} must answer logits alone and change nothing of its own (export it in eval "
                f"mode); it gives {kinds}"
            )
        self.graph.output(self._value(specs[0]["user_output"]["arg"]))
        return fx.GraphModule(self.kept, self.graph, "ExportedProgram").eval()

    def _keep(self) -> None:
        """The graph's inputs that are weights, buffers or constants."""
        held = self.store.tensors("constants") | self.store.tensors("weights")
        keys = {
            "parameter": "parameter_name",
            "buffer": "buffer_name",
            "tensor_constant": "tensor_constant_name",
        }
        for number, spec in enumerate(self.serialized["signature"]["input_specs"]):
            ((kind, content),) = spec.items()
            if kind == "user_input":
                continue
            if kind not in keys:
                raise ClassifierError(f"{self.what} holds a {kind}, which is no tensor: it is not read")
            self.kept[f"tensor{number}"] = held[content[keys[kind]]]
            self.names[content["arg"]["name"]] = self.graph.create_node("get_attr", f"tensor{number}")

    def _node(self, node: Mapping[str, Any]) -> None:
        target = node["target"]
        if _CHECKS.fullmatch(target):
            return  # of shapes and devices, which are ours to choose
        if target in _ARITHMETIC:
            args: list[Any] = [self._value(given["arg"]) for given in node["inputs"]]
            made = self.graph.call_function(_ARITHMETIC[target], tuple(args))
        else:
            made = self._call(self._operator(target), node["inputs"])
        outputs = node["outputs"]
        if len(outputs) == 1:
            self._name(outputs[0], made)
        else:
            for place, output in enumerate(outputs):
                self._name(output, self.graph.call_function(operator.getitem, (made, place)))

    def _operator(self, target: str) -> torch._ops.OpOverload:
        named = re.fullmatch(r"torch\.ops\.aten\.(\w+)\.(\w+)", target)
        found = None
        if named and not DENIED.fullmatch(named[1]):
            found = getattr(getattr(torch.ops.aten, named[1], None), named[2], None)
        if not isinstance(found, torch._ops.OpOverload):
            raise ClassifierError(
                f"{self.what} calls {target}, which is no operator on tensors that is allowed: it is not read"
            )
        return found

    def _call(self, called: torch._ops.OpOverload, inputs: list[Mapping[str, Any]]) -> fx.Node:
        given = {entry["name"]: self._value(entry["arg"]) for entry in inputs}
        if given.get("training") is True or given.get("train") is True:
            raise ClassifierError(
                f"{self.what} was exported in training mode ({called}), so its answers depend on the batch "
                f"or on chance: call .eval() before torch.export"
            )
        args: list[Any] = []
        for argument in called._schema.arguments:
            if argument.kwarg_only or argument.name not in given:
                break
            args.append(given.pop(argument.name))
        return self.graph.call_function(called, tuple(args), given)

    def _name(self, output: Mapping[str, Any], made: fx.Node) -> None:
        ((kind, content),) = output.items()
        if kind == "as_tensors":
            for place, tensor in enumerate(content):
                self.names[tensor["name"]] = self.graph.call_function(operator.getitem, (made, place))
        elif kind == "as_tensor":
            self.names[content["name"]] = made
        elif kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
            self.names[content["as_name"]] = made
        elif kind != "as_none":
            raise ClassifierError(f"{self.what} has an operator that answers {kind}: it is not read")

    def _value(self, argument: Mapping[str, Any]) -> Any:
        """An argument of a node, by its kind."""
        ((kind, content),) = argument.items()
        match kind:
            case "as_none":
                return None
            case "as_tensor":
                return self.names[content["name"]]
            case "as_tensors":
                return [self.names[tensor["name"]] for tensor in content]
            case "as_optional_tensor":
                return self._value(content)
            case "as_optional_tensors" | "as_sym_ints" | "as_sym_floats" | "as_sym_bools":
                return [self._value(each) for each in content]
            case "as_sym_int" | "as_sym_float" | "as_sym_bool":
                return self._value(content)
            case "as_name":
                return self.names[content]
            case "as_int" | "as_bool" | "as_string" | "as_ints" | "as_bools" | "as_strings" | "as_int_lists":
                return content
            case "as_float":
                return float(content)
            case "as_floats":
                return [float(value) for value in content]
            case "as_scalar_type":
                return _DTYPES[content]
            case "as_memory_format":
                return _FORMATS[content]
            case "as_layout" if content == 7:
                return torch.strided
            case "as_device":
                return self.device
        raise ClassifierError(f"{self.what} hands an operator {kind}: it is not read")
