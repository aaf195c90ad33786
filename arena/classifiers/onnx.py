"""ONNX models through onnxruntime, an optional extra."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arena.classifiers.errors import ClassifierError
from arena.classifiers.threads import UNCOUNTED
from arena.messages import first_line

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_EXTERNAL = b"\x0a\x08location\x12"  # as every writer puts a tensor's `external_data` entry (onnx.proto)


class OnnxSession(nn.Module):
    """An ONNX model [n,C,H,W] -> [n,K] on onnxruntime's CPU or CUDA provider, whichever `device` asks for.

    Attributes:
        sha: SHA-256 of the file.
        takes: the shape of its images, None if it is free.
        batch: the fewest and the most rows of a run; both N if the model's first axis is fixed to N.
        card: the model's metadata.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        super().__init__()
        content = path.read_bytes()
        self.sha = hashlib.sha256(content).hexdigest()
        self.what = f"program {path}"
        if _EXTERNAL in content:
            raise ClassifierError(
                f"{self.what} keeps tensors in other files, which its fingerprint would not hold: save it as "
                f"one"
            )
        self.remarks: tuple[str, ...] = ()
        self.session = self._open(content, path, device)
        self.input, self.output = self._ends()
        axes = self.input.shape or [None] * 4  # for an input without declared axes
        rows, *shape = (axis if isinstance(axis, int) else None for axis in axes)
        self.takes: tuple[int | None, ...] = tuple(shape)
        self.batch = (1, None) if rows is None else (rows, rows)
        self.card = {str(k): str(v) for k, v in self.session.get_modelmeta().custom_metadata_map.items()}
        self.eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxSession:
        return self  # a session cannot be copied, nor changed

    def forward(self, x: Tensor) -> Tensor:
        array = np.ascontiguousarray(x.detach().cpu().numpy(), dtype=_DTYPES[self.input.type])
        (logits,) = self.session.run([self.output.name], {self.input.name: array})
        return torch.from_numpy(logits).to(x.device, torch.float32)

    def _open(self, content: bytes, path: Path, device: torch.device) -> Any:
        try:
            runtime = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise ClassifierError(
                f"{self.what} needs onnxruntime, which is not installed: install blackbox-arena[onnx]"
            ) from error
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.type == "cuda":
            if "CUDAExecutionProvider" in runtime.get_available_providers():
                exact = {"device_id": device.index or 0, "use_tf32": 0}
                providers.insert(0, ("CUDAExecutionProvider", exact))
            else:
                self.remarks = (
                    f"{self.what} runs on the CPU: this onnxruntime has no CUDA (onnxruntime-gpu has)",
                )
        options = runtime.SessionOptions()
        options.intra_op_num_threads = UNCOUNTED
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # errors come as exceptions
        # Entries not written like _EXTERNAL are searched for below the model's own file, and not found.
        below = str(path.absolute())
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", below)
        try:
            return runtime.InferenceSession(content, options, providers=providers)
        except Exception as error:  # its only base class for all errors of onnxruntime
            raise ClassifierError(f"{self.what} cannot be read as ONNX: {first_line(error)}") from error

    def _ends(self) -> tuple[Any, Any]:
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        for ends, what in ((inputs, "input"), (outputs, "output")):
            if len(ends) != 1:
                names = ", ".join(end.name for end in ends) or "none"
                raise ClassifierError(f"{self.what} must have one {what}; found {names}")
            if ends[0].type not in _DTYPES:
                raise ClassifierError(
                    f"{self.what}: {what} {ends[0].name} must be floating-point; found {ends[0].type}"
                )
        for end, axes in ((inputs[0], 4), (outputs[0], 2)):
            if len(end.shape) not in (0, axes):
                form = "images [n,C,H,W]" if axes == 4 else "logits [n,K]"
                raise ClassifierError(f"{self.what}: {end.name} must be {form}; found {end.shape}")
        return inputs[0], outputs[0]
