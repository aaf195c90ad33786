"""A torch classifier as the arena sees it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from arena.classifiers.errors import ClassifierError, ServiceError
from arena.classifiers.fingerprints import fingerprint, named_tensors
from arena.classifiers.forward import Forward, Precision, check_precision, prepare_forward
from arena.classifiers.function import Function
from arena.classifiers.keyed import Keys, draws_for_rows, keyed
from arena.classifiers.reading import Reading
from arena.classifiers.served import AnswerMemory, remembered, served_in
from arena.classifiers.soundness import flaw_of_answers, network_in_training, no_logits, odd_form
from arena.classifiers.threads import computing_threads
from arena.interruptions import is_the_users
from arena.messages import first_line
from arena.modes import own_modes


class Classifier:
    """Images [n,C,H,W] float32 in [0,1] -> logits [n,K] float32: eval mode, frozen, normalisation inside.

    A module that is in training mode, requires gradients or lies on another device is copied first, so that
    the caller's module does not change; any other is shared. `sha` replaces the fingerprint if the caller
    knows a better one than `fingerprint(module)`.

    A call runs `forward`, a copy of the module that is prepared at the first call (BatchNorm fused,
    channels-last, reduced precision, compiled: see `prepare_forward`), and again if the module has changed
    since; so the weights are held twice. Side effects of the network (counting, printing) may be lost in the
    copy. `module` and `differentiable` are the network as it was given, in its own precision.

    On the CPU the number of threads of a pass depends on its multiply-adds (`threads_for`), not on torch's
    own setting, so that the same batch has the same logits on every number of cores. `differentiable` uses
    torch's own setting.

    A row's logits do not depend on the other rows of its batch except for rounding: kernels are chosen by the
    batch's size, so float32 logits of one image in two batches agree to about 1e-6 of the largest logit, not
    bit for bit.

    Args:
        batch: the most rows of one forward pass.
        precision: of convolutions and matrix products. "float32" is exact (never TF32, whatever the process
            allows); "tf32" is for CUDA alone. "bf16" rounds the inputs of each of them to 8 significant bits
            (spacing 2^-8 for pixels from 0.5 to 1), the input after its normalisation too: perturbations
            finer than that vanish, and finite differences measure rounding.
        compile: run through torch.compile, on CUDA as CUDA graphs. Rows are padded to a power of two, each of
            which is compiled at its first use, for tens of seconds.

    Attributes:
        card: the metadata of the weights, as their loader found it.
        remarks: what a user should know about the origin of the network, how it runs and how it is read.
        reading: how what the network answers becomes logits; None: as it is.

    Raises ValueError for a batch below 1, an unknown precision, and a BatchNorm without running
    statistics: its answer to one image would depend on the others in the batch.
    """

    @own_modes()
    def __init__(
        self,
        module: nn.Module,
        *,
        shape: tuple[int, int, int],
        classes: int,
        device: str | torch.device = "cpu",
        batch: int = 256,
        name: str = "",
        sha: str | None = None,
        precision: Precision = "float32",
        compile: bool = False,
    ) -> None:
        if batch < 1:
            raise ValueError(f"a classifier's batch must be at least 1 row, not {batch}")
        self.name = name or type(module).__name__
        for key, layer in module.named_modules():
            if isinstance(layer, _BatchNorm) and layer.running_mean is None:
                raise ValueError(
                    f"classifier {self.name!r}: layer {key or 'itself'} ({type(layer).__name__}) keeps no "
                    f"running statistics, so its answers would depend on the batch; set track_running_stats"
                )
        self.device = torch.empty(0, device=device).device  # "cuda" -> "cuda:0", comparable with a tensor's
        check_precision(precision, self.device)
        self.module = _frozen(module, self.device)
        self.shape = shape
        self.classes = classes
        self.batch = batch
        self.precision: Precision = precision
        self.compile = compile
        self.card: Mapping[str, str] = {}
        self.remarks: tuple[str, ...] = ()
        self.reading: Reading | None = None
        self._sha = sha
        self._forward: Forward | None = None
        self._memory = None if served_in(self.module) is None else AnswerMemory()

    def __getstate__(self) -> dict[str, Any]:
        """Without the prepared copy: each process prepares its own."""
        return {**self.__dict__, "_forward": None}

    @property
    def sha(self) -> str:
        """SHA-256 that identifies the classifier, in hexadecimal; computed once, at first use.

        The same network in another precision is another classifier.
        """
        if self.precision == "float32":
            return self._sha_of_weights()
        return hashlib.sha256(f"{self._sha_of_weights()} {self.precision}".encode()).hexdigest()

    def _sha_of_weights(self) -> str:
        if self._sha is None:
            self._sha = fingerprint(self.module)
        return self._sha

    @property
    def title(self) -> str:
        """Its name, with its precision unless that is float32."""
        return self.name if self.precision == "float32" else f"{self.name} ({self.precision})"

    @property
    def forward(self) -> Forward:
        """What a call runs, prepared at first use; reasons for steps left out are added to the remarks."""
        if self._forward is None or not self._forward.current:
            self._evaluate()
            self._forward = prepare_forward(
                self.module,
                shape=self.shape,
                device=self.device,
                precision=self.precision,
                compile=self.compile,
            )
            self.remarks += tuple(r for r in self._forward.remarks if r not in self.remarks)
        if self._forward.module is self.module:
            self._evaluate()
        return self._forward

    @property
    def threads(self) -> int:
        """Threads of a pass of `batch` rows; shorter ones may take fewer. 1 on devices other than the CPU."""
        return self.forward.threads(self.batch, self.batch)

    @property
    def random(self) -> bool:
        """Whether its network has layers that draw for each row (`arena.classifiers.keyed`)."""
        return draws_for_rows(self.module)

    def __call__(self, x: Tensor, keys: Keys | None = None) -> Tensor:
        """Logits [n,K] of x [n,C,H,W], in pieces of at most `batch` rows, without gradients.

        `keys` are the rows [n] for which layers that draw do so; without them those are silent.

        The forward runs under inference_mode; the logits are copied out of it (a few microseconds), because
        an inference tensor could be neither written to nor used in autograd by a defender that gets it.
        """
        if len(x) == 0:
            return x.new_zeros((0, self.classes))
        if self._memory is not None and remembered():
            return self._memory.answer(x, self._ask)
        return self._ask(x, keys)

    def _ask(self, x: Tensor, keys: Keys | None = None) -> Tensor:
        forward = self.forward
        pieces = torch.split(x, self.batch) if len(x) > self.batch else (x,)
        if keys is None:
            answers = [self._answer(forward, piece) for piece in pieces]
        else:
            answers = []
            for place, piece in enumerate(pieces):
                with keyed(keys[place * self.batch : place * self.batch + len(piece)]):
                    answers.append(self._answer(forward, piece))
        for answer in answers:
            if (found := odd_form(answer)) is not None:
                raise ValueError(f"classifier {self.name!r} must answer a plain tensor; found {found}")
        logits = answers[0].to(torch.float32, copy=True) if len(answers) == 1 else torch.cat(answers).float()
        if self.classes and logits.shape != (len(x), self.classes):
            found = f"found {list(logits.shape)} for {len(x)} images"
            raise ValueError(f"classifier {self.name!r} must answer [n,{self.classes}]; {found}")
        return logits if self.reading is None else self.reading(logits)

    def _answer(self, forward: Forward, piece: Tensor) -> Tensor:
        with computing_threads(forward.threads(len(piece), self.batch)):
            return forward(piece, self.batch)

    def eager(self, x: Tensor) -> Tensor:
        """The logits of a call, in one piece and without compilation, for measuring the memory of a batch."""
        return self.forward.eager(x)

    def _evaluate(self) -> None:
        if self.module.training:
            self.module.eval()

    def differentiable(self, x: Tensor) -> Tensor:
        """Logits [n,K] of x [n,C,H,W], in one piece, with autograd through x (none through the weights)."""
        self._evaluate()
        logits: Tensor = self.module(x).float()
        return logits if self.reading is None else self.reading(logits)

    def require_gradients(self) -> None:
        """Raises ClassifierError, one sentence, unless torch can differentiate through the network."""
        x = torch.full((1, *self.shape), 0.5, device=self.device).requires_grad_(True)
        reason = "it leaves torch, or computes within no_grad"
        try:
            with torch.enable_grad():
                if self.differentiable(x).requires_grad:
                    return
        except ClassifierError:
            raise
        except Exception as error:
            reason = first_line(error)
        raise ClassifierError(
            f"classifier {self.name!r} gives no gradients ({reason}): a white box (knowledge of the weights) "
            f"needs a network in torch"
        )

    def tensors(self) -> dict[str, Tensor]:
        """Every parameter and buffer of the module by name, also those outside its state dict."""
        return {name: tensor.detach() for name, tensor in named_tensors(self.module)}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Classifier:
        """This classifier with other weights: a copy of its module that holds copies of `tensors`, which are
        named as `tensors()` names its own. It has a fingerprint of its own, no card and no remarks.

        Raises ValueError if they have other names, shapes or dtypes than its own.
        """
        own = self.tensors()
        for name in sorted({*own, *tensors}):
            mine, other = (_form(which.get(name)) for which in (own, tensors))
            if mine != other:
                raise ValueError(f"classifier {self.name!r} has {mine} as {name!r}; found {other}")
        changed = copy.deepcopy(self)
        for name, tensor in named_tensors(changed.module):
            tensor.data = tensors[name].detach().to(self.device, copy=True)  # strides too: kernels go by them
        changed._sha, changed.card, changed.remarks = None, {}, ()
        return changed

    def copied(self) -> Classifier:
        """A copy with weights of its own; a user's function stays itself, and is asked nothing twice."""
        own = copy.deepcopy(self)
        if (forward := self.forward).module is self.module and forward.watch is None:
            own._forward = replace(forward, module=own.module)
        if own.module is self.module:
            own._memory = self._memory
        return own

    def settings(self) -> dict[str, Any]:
        """What distinguishes it from other classifiers around the same module: JSON values by name."""
        return {
            "name": self.name,
            "batch": self.batch,
            "precision": self.precision,
            "compile": self.compile,
            "sha": self._sha_of_weights(),
        }

    def with_settings(self, settings: Mapping[str, Any]) -> Classifier:
        """This classifier, its module shared, with the `settings()` of another.

        Raises ValueError for a precision that its device does not support.
        """
        check_precision(settings["precision"], self.device)
        changed = copy.copy(self)
        changed.name, changed.batch, changed.precision, changed.compile, changed._sha = (
            settings[key] for key in ("name", "batch", "precision", "compile", "sha")
        )
        return changed

    @classmethod
    @own_modes()
    def of(
        cls,
        model: nn.Module | Classifier | Callable[[Tensor], Tensor],
        *,
        sample: Tensor,
        device: str | torch.device = "cpu",
        batch: int = 256,
        name: str = "",
        precision: Precision | None = None,
        compile: bool | None = None,
    ) -> Classifier:
        """Wrap a user's model; shape and number of classes are those of one forward on `sample` [1..,C,H,W].

        Arguments not given are taken from `model` if it is a Classifier, else from the class's defaults. A
        function has no weights: its fingerprint is its qualified name.

        A model that is no Classifier yet is asked for at most 10 rows. Probabilities are taken for what they
        are, and a masked class (minus infinity) for one of probability 0; the remarks say so.

        Raises ValueError if the model cannot take the sample, changes it in place, or answers anything but
        floating-point [n,K] with K > 1; if it is random itself, or answers an image by the others in its
        batch; and if it runs a network that was left in training mode.
        """
        sha, other = None, model if isinstance(model, Classifier) else None
        if other is not None:
            name, sha, model = name or other.name, other._sha, other.module
            precision, compile = precision or other.precision, other.compile if compile is None else compile
        module = model if isinstance(model, nn.Module) else Function(model)
        if sample.dim() != 4 or len(sample) == 0:
            raise ValueError(f"the sample must be images [n,C,H,W] with n > 0, not {list(sample.shape)}")
        channels, height, width = sample.shape[1:]
        name = name or (module.name if isinstance(module, Function) else "")
        shape = (channels, height, width)
        self = cls(
            module,
            shape=shape,
            classes=0,
            device=device,
            batch=batch,
            name=name,
            sha=sha,
            precision=precision or "float32",
            compile=bool(compile),
        )
        if other is not None:
            self.card, self.remarks, self.reading = other.card, other.remarks, other.reading
        elif (hidden := network_in_training(self.module)) is not None:
            raise ValueError(
                f"classifier {self.name!r} runs a network ({hidden}) that is in training mode: its answers "
                f"would depend on the batch and change as it is asked; call eval() on it first"
            )
        few = sample[:2].to(self.device, torch.float32)
        scores = self._first_answers(few)
        self.classes = scores.shape[1]
        if other is None:
            self._learn_to_read(few, scores)
        return self

    def _learn_to_read(self, few: Tensor, alone: Tensor) -> None:
        """Refuse a module whose answers are no function of the image; see what its scores are, from those
        (`alone`) to images `few` [m,C,H,W]."""
        noise = torch.rand(2, *self.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        with torch.inference_mode():
            flaw = flaw_of_answers(self.module, alone, torch.cat([few, noise]))
        if flaw is not None:
            raise ValueError(
                f"classifier {self.name!r} is no function of the image: {flaw}. Verdicts would depend on "
                f"luck, and no game could be repeated: switch dropout and the like off, or make what is "
                f"random a defender, whose draws are keyed (docs/defenders.md)"
            )
        if (reading := Reading.of(alone)) is not None:
            self.reading = reading
            self.remarks += (f"classifier {self.name!r}: {reading.remark}",)

    def _first_answers(self, sample: Tensor) -> Tensor:
        logits: Tensor
        given = sample.clone()
        try:
            with torch.inference_mode():
                logits = self.module(given)
        except ServiceError:
            raise
        except BaseException as error:  # a user's own code
            if is_the_users(error):
                raise
            reason = first_line(error)
            raise ValueError(
                f"classifier {self.name!r} cannot take images of shape {list(self.shape)}: {reason}"
            ) from error
        want = (
            f"classifier {self.name!r} must answer images [n,C,H,W] with floating-point logits [n,K], K > 1"
        )
        if (found := no_logits(logits, len(sample))) is not None:
            raise ValueError(f"{want}, not with {found}")
        if not torch.equal(given, sample):
            raise ValueError(f"classifier {self.name!r} changes its input in place; it must work on a copy")
        return logits


def _form(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"


def _frozen(module: nn.Module, device: torch.device) -> nn.Module:
    ready = not any(layer.training for layer in module.modules()) and not any(
        tensor.requires_grad or tensor.is_inference() or tensor.device != device
        for _, tensor in named_tensors(module)
    )
    if ready:
        return module
    copied = copy.deepcopy(module)
    for tensor in copied.parameters():
        tensor.detach_()  # not requires_grad_: a copied script's parameters are no leaves
    return copied.to(device).eval()
