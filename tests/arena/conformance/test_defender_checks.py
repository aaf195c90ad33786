"""Each check of defenders is shown a defender that is broken in just the way that the check is for."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from arena import draws
from arena.classifiers import Classifier
from arena.conformance import CheckResult, ConformanceError, check_defender, defender_checks, run_checks
from arena.conformance.stand_in_agents import Detector, NoisyInput, Several
from arena.players import Defender, Inner, Response, Rows, Splits


@dataclass(frozen=True)
class Plain(Defender):
    """No defense."""


@dataclass(frozen=True)
class Flagger(Defender):
    """Flags a row whose game (or account, or any row of the service) has sent `after` rows before."""

    after: int = 3

    memory: ClassVar[Literal["none", "game", "account", "service"]] = "game"

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Tensor:
        return torch.zeros(shape[0], accounts, dtype=torch.int64, device=device)

    def sent(self, rows: Rows) -> Tensor:
        count: Tensor = rows.memory
        if self.memory == "service":
            return count.sum().expand(len(rows))
        return count.sum(dim=1)[rows.game] if self.memory == "game" else count[rows.game, rows.account]

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        return replace(response, flagged=self.sent(rows) >= self.after)

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        rows.memory.index_put_((rows.game, rows.account), torch.ones_like(rows.game), accumulate=True)


@dataclass(frozen=True)
class AccountFlagger(Flagger):
    memory = "account"


@dataclass(frozen=True)
class ServiceFlagger(Flagger):
    memory = "service"


@dataclass(frozen=True)
class Calibrated(Defender):
    """Scales logits as its calibration data say."""

    scale: float = field(default=1.0, init=False)

    def fit(self, classifier: Classifier, splits: Splits) -> Calibrated:
        fitted = copy.copy(self)
        largest = classifier(splits.calibration.images).abs().max()
        object.__setattr__(fitted, "scale", 1 / float(largest))
        return fitted

    def facts(self) -> dict[str, Any]:
        return {"scale": self.scale, "worst": math.nan, "most": math.inf}

    def state(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Calibrated:
        fitted = copy.copy(self)
        object.__setattr__(fitted, "scale", state["scale"])
        return fitted

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        return scores * self.scale


@dataclass(frozen=True)
class Hardened(Defender):
    """Another network in place of the given one: the same with its logits scaled."""

    factor: float = 0.5

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        tensors = classifier.tensors()
        return classifier.with_tensors({**tensors, "scale": tensors["scale"] * self.factor})


SOUND = [
    Plain(),
    NoisyInput(),
    Several(),
    Flagger(),
    AccountFlagger(),
    ServiceFlagger(),
    Calibrated(),
    Hardened(),
    Detector(),
]


# What they declare


@dataclass
class Thawed(Defender):
    pass


@dataclass(frozen=True)
class UnknownMemory(Plain):
    memory = "image"  # type: ignore[assignment]


@dataclass(frozen=True)
class NeverCalled(Flagger):
    memory = "none"

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        return response


@dataclass(frozen=True)
class Forgets(Plain):
    memory = "game"


# How they prepare


@dataclass(frozen=True)
class NeedsMuch(Plain):
    def fit(self, classifier: Classifier, splits: Splits) -> NeedsMuch:
        raise ValueError(f"{len(splits.calibration)} images are too few")


@dataclass(frozen=True)
class FitsNothing(Plain):
    def fit(self, classifier: Classifier, splits: Splits) -> None:  # type: ignore[override]
        pass


@dataclass(frozen=True)
class HardensToAModule(Plain):
    def harden(self, classifier: Classifier, splits: Splits) -> Any:
        return classifier.module


@dataclass(frozen=True)
class FitsItself(Plain):
    scale: float = 0.0

    def fit(self, classifier: Classifier, splits: Splits) -> FitsItself:
        object.__setattr__(self, "scale", 2.0)
        return self


@dataclass(frozen=True)
class Retrains(Plain):
    """It changes the classifier that it was given."""

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        classifier.module.get_buffer("mean").mul_(1.001)
        return classifier


@dataclass(frozen=True)
class Relabels(Plain):
    """It changes the labels that it was given."""

    def fit(self, classifier: Classifier, splits: Splits) -> Relabels:
        splits.train.labels.add_(1)
        return self


@dataclass(frozen=True)
class LooksForGames(Plain):
    def fit(self, classifier: Classifier, splits: Splits) -> LooksForGames:
        splits.split("games", 3)  # type: ignore[attr-defined]
        return self


@dataclass(frozen=True)
class TensorFacts(Plain):
    def facts(self) -> dict[str, Any]:
        return {"temperature": torch.ones(1)}


# What they answer


@dataclass(frozen=True)
class Doubles(Plain):
    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        return Response(inner(x, rows).scores.double())


@dataclass(frozen=True)
class IntegerFlags(Plain):
    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        return replace(response, refused=torch.zeros_like(rows.key))


@dataclass(frozen=True)
class Narrow(Plain):
    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        return scores.topk(3, dim=1).values


@dataclass(frozen=True)
class PassesDoubles(Plain):
    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        return x.double()


@dataclass(frozen=True)
class PassesOtherRows(Plain):
    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        return Response(inner(x, rows.repeat(2)).scores)


@dataclass(frozen=True)
class Overflows(Plain):
    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        return scores.exp()


@dataclass(frozen=True)
class MakesUp(Plain):
    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        return Response(inner(x, rows).scores.nan_to_num(0.0))


@dataclass(frozen=True)
class Decides(Plain):
    """Gives the first class where the rest of the stack gives none."""

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        scores = inner(x, rows).scores
        return Response(scores + torch.arange(scores.shape[1], 0, -1) * 1e-6)


@dataclass(frozen=True)
class SpreadsNaN(Plain):
    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        scores = inner(x, rows).scores
        return Response(scores * torch.nan if scores.isnan().any() else scores)


@dataclass(frozen=True)
class ClampsInPlace(Plain):
    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        return x.clamp_(0.1, 0.9)


@dataclass(frozen=True)
class ScalesInPlace(Plain):
    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        return scores.mul_(2)


@dataclass(frozen=True)
class TurnsBack(Plain):
    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        rows.turn.clamp_(max=0)
        return x


# How they draw


@dataclass(frozen=True)
class OwnDraws(Plain):
    random = True

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        return x * (1 - 0.01 * float(np.random.default_rng().random()))


@dataclass(frozen=True)
class FitsAtRandom(Plain):
    scale: float = 1.0

    def fit(self, classifier: Classifier, splits: Splits) -> FitsAtRandom:
        return replace(self, scale=float(np.random.default_rng().random()))

    def state(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> FitsAtRandom:
        return replace(self, **state)

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        return scores * self.scale


@dataclass(frozen=True)
class Undeclared(NoisyInput):
    random = False


@dataclass(frozen=True)
class Keyless(NoisyInput):
    """Draws by hand, and leaves out part of the key."""

    without: str = "seed"

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        seed = 0 if self.without == "seed" else rows.seed
        turn = torch.zeros_like(rows.turn) if self.without == "turn" else rows.turn
        stream = 0 if self.without == "draw" else rows.draw
        return x + self.sigma * draws.normal(seed, rows.key, turn, x.shape[1:], stream=stream)


@dataclass(frozen=True)
class GlobalDraws(Plain):
    random = True

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        return x * torch.rand(1)


@dataclass(frozen=True)
class FitsByGlobalDraws(FitsAtRandom):
    def fit(self, classifier: Classifier, splits: Splits) -> FitsAtRandom:
        return replace(self, scale=float(torch.rand(())))


@dataclass(frozen=True)
class Reseeds(Plain):
    def fit(self, classifier: Classifier, splits: Splits) -> Reseeds:
        torch.manual_seed(0)
        return self

    def state(self) -> dict[str, Any]:
        return {}


# How they are written and read back


@dataclass(frozen=True)
class FitsInSilence(Plain):
    def fit(self, classifier: Classifier, splits: Splits) -> FitsInSilence:
        return copy.copy(self)


@dataclass(frozen=True)
class LeavesOut(Calibrated):
    """Does not say what it found."""

    def facts(self) -> dict[str, Any]:
        return {}

    def state(self) -> dict[str, Any]:
        return {"scale": 1.0}


@dataclass(frozen=True)
class LosesFacts(Calibrated):
    def facts(self) -> dict[str, Any]:
        return {"fitted": self.scale != 1.0}

    def state(self) -> dict[str, Any]:
        return {"scale": 1.0}


@dataclass(frozen=True)
class StatesATuple(Calibrated):
    def state(self) -> dict[str, Any]:
        return {"scale": (self.scale,)}


@dataclass(frozen=True)
class NoRestore(Plain):
    def state(self) -> dict[str, Any]:
        return {"scale": 2.0}


@dataclass(frozen=True)
class HardensByHand(Plain):
    """Another network, of which its tensors tell too little."""

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        module = nn.Sequential(classifier.module, nn.LeakyReLU(0.5))
        return Classifier(module, shape=classifier.shape, classes=classifier.classes)


@dataclass(frozen=True)
class Centres(Plain):
    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        return x - 0.01 * x.mean(dim=0)


# What they remember


@dataclass(frozen=True)
class RemembersAll(Flagger):
    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        flagged = super().watch(x, rows, response)
        super().remember(x, rows, response)
        return flagged

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        pass


@dataclass(frozen=True)
class KeepsToItself(Plain):
    seen: list[int] = field(default_factory=list)

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        self.seen.append(len(x))
        return replace(response, flagged=torch.full_like(rows.key, len(self.seen) > 5, dtype=torch.bool))


@dataclass(frozen=True)
class AllGames(Flagger):
    def sent(self, rows: Rows) -> Tensor:
        count: Tensor = rows.memory
        return count.sum().expand(len(rows))


@dataclass(frozen=True)
class AllAccounts(AccountFlagger):
    def sent(self, rows: Rows) -> Tensor:
        count: Tensor = rows.memory
        return count.sum(dim=1)[rows.game]


# What they do not stand


@dataclass(frozen=True)
class Differentiates(Plain):
    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        point = x.clone().requires_grad_(True)
        slope = torch.autograd.grad(point.square().sum(), point)[0]
        return (x - 0.01 * slope).detach()


@dataclass(frozen=True)
class NeedsRows(Plain):
    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        assert len(x)
        return x


@dataclass(frozen=True)
class SilentDetector(Defender):
    def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
        return x.flatten(1).mean(dim=1)


@dataclass(frozen=True)
class ColumnDetector(Plain):
    def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
        return x.flatten(1).mean(dim=1, keepdim=True)


def keyless(part: str) -> Callable[[], Defender]:
    return lambda: Keyless(without=part)


class OneForAll(Flagger):
    """Has but one memory, whoever asks for one."""

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Tensor:
        return vars(self).setdefault("one", super().start(shape, accounts, device))  # type: ignore[no-any-return]


class Wiped(Flagger):
    """Has but one memory, and wipes it for whoever asks for one."""

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Tensor:
        memory = vars(self).setdefault("one", super().start(shape, accounts, device))
        return memory.zero_()  # type: ignore[no-any-return]


BROKEN: list[tuple[Callable[[], Defender], str, str]] = [
    (Thawed, "parameters", "must be a dataclass(frozen=True)"),
    (UnknownMemory, "declares", "one of none, game, account, service; found 'image'"),
    (NeverCalled, "declares", "never called"),
    (Forgets, "declares", "it has no remember"),
    (NeedsMuch, "fit", "ValueError: 20 images are too few"),
    (FitsNothing, "fit", "must return a FitsNothing; found NoneType"),
    (HardensToAModule, "fit", "must return a Classifier"),
    (FitsItself, "fit", "changed the defender itself"),
    (Retrains, "fit", "changed the classifier itself"),
    (Relabels, "fit", "changed the images or labels that it was given"),
    (LooksForGames, "fit", "its fit failed with AttributeError"),
    (TensorFacts, "fit", "its facts failed with TypeError"),
    (Doubles, "form", "scores must be float32 [1,2] on cpu; found torch.float64"),
    (IntegerFlags, "form", "refused must be bool [1]"),
    (Narrow, "form", "respond failed with RuntimeError"),
    (PassesDoubles, "passes-on", "must pass on images [n,1,8,8] float32; found torch.float64"),
    (PassesOtherRows, "passes-on", "passed on 7 images with 14 rows"),
    (Overflows, "finite", "logits times 10000, 2 classes"),
    (MakesUp, "nan", "of its own making"),
    (Decides, "nan", "all equal, and so give no label, with a label"),
    (SpreadsNaN, "nan", "change the answers to others"),
    (ClampsInPlace, "untouched", "changed the images"),
    (ScalesInPlace, "untouched", "changed in place the scores"),
    (TurnsBack, "untouched", "changed the rows"),
    (OwnDraws, "reproducible", "otherwise from the same seed"),
    (FitsAtRandom, "reproducible", "prepared again on the same data"),
    (FitsInSilence, "state", "overrides fit, so it must override state() and restore(state, classifier)"),
    (LeavesOut, "state", "written and read back, it answers otherwise: its scores of row 0 are"),
    (LosesFacts, "state", 'its facts are {"fitted": false}, not {"fitted": true}'),
    (StatesATuple, "state", "StatesATuple.state()['scale'] must be a tensor or a JSON value"),
    (NoRestore, "state", "has a state (scale), so it must override restore(state, classifier)"),
    (HardensByHand, "state", "so it must override rebuild(classifier, tensors)"),
    (Undeclared, "draws", "declares random = False"),
    (keyless("seed"), "draws", "another seed gives the same draws"),
    (keyless("turn"), "draws", "another turn gives the same draws"),
    (keyless("draw"), "draws", "another repeat of a row gives the same draws"),
    (GlobalDraws, "generators", "depends on a global random generator"),
    (FitsByGlobalDraws, "generators", "depends on a global random generator"),
    (Reseeds, "generators", "disturbs the global random generator of torch"),
    (Centres, "batch", "than in a batch of 7"),
    (RemembersAll, "trace", "respond changes its memory"),
    (KeepsToItself, "trace", "answers that were not kept change later ones"),
    (AllGames, "memory", 'its memory is "game", but rows of another game change its answer 2'),
    (OneForAll, "new-client", "the memory that start makes is not empty"),
    (Wiped, "new-client", "starting a memory, and answering by it, changes another"),
    (AllAccounts, "memory", 'its memory is "account", but rows of another account change its answer 2'),
    (Differentiates, "no-grad", "respond failed with RuntimeError"),
    (NeedsRows, "stack", "NeedsRows.respond failed with AssertionError"),
    (SilentDetector, "detector", "it does not flag what its detector scores from 0 on"),
    (ColumnDetector, "detector", "finite scores [7]; found [7, 1]"),
]


def failed(outcomes: list[CheckResult]) -> dict[str, str]:
    return {outcome.name: outcome.sentence for outcome in outcomes if outcome.verdict == "failed"}


@pytest.mark.parametrize(("make", "check", "sentence"), BROKEN, ids=lambda v: getattr(v, "__name__", ""))
def test_a_broken_defender_fails_one_check(make: Callable[[], Defender], check: str, sentence: str) -> None:
    found = failed(run_checks(make()))
    assert list(found) == [check], found
    assert sentence in found[check]


def test_every_check_of_defenders_has_a_broken_one() -> None:
    assert {check for _, check, _ in BROKEN} == {check.name for check in defender_checks()}


@pytest.mark.parametrize("defender", SOUND, ids=lambda d: type(d).__name__)
def test_a_sound_defender_passes_all_checks(defender: Defender) -> None:
    outcomes = run_checks(defender)
    assert [o.name for o in outcomes] == [check.name for check in defender_checks()]
    assert {o.name: o.sentence for o in outcomes if o.verdict != "passed"} == {}


def test_what_a_fault_hides_is_skipped() -> None:
    verdicts = {outcome.name: outcome.verdict for outcome in run_checks(Doubles())}
    assert verdicts["fit"] == "passed"
    assert verdicts["batch"] == verdicts["trace"] == "skipped"


def test_a_random_defender_that_never_draws_is_remarked_on() -> None:
    outcome = next(o for o in run_checks(NoisyInput(sigma=0.0)) if o.name == "draws")
    assert outcome.verdict == "passed"
    assert outcome.sentence.startswith("it declares random = True, but 8 draws")


def test_check_defender_says_in_one_sentence_what_is_wrong() -> None:
    with pytest.raises(ConformanceError, match=r'Overflows fails the check "finite": it answered'):
        check_defender(Overflows())


@dataclass(frozen=True)
class Undecided(Defender):
    """Fails to say which images it can defend."""

    def unsuited(self, shape: tuple[int, ...]) -> str | None:
        raise KeyError(shape)


@dataclass(frozen=True)
class Unsuited(Defender):
    """Can defend nothing."""

    def unsuited(self, shape: tuple[int, ...]) -> str | None:
        return "it cannot defend this"


@dataclass(frozen=True)
class ColoursAlone(Defender):
    """Cannot defend grey images, and would fail on them."""

    def unsuited(self, shape: tuple[int, ...]) -> str | None:
        return None if shape[0] == 3 else "it needs colours"

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        red, green, blue = x.unbind(1)
        return torch.stack([red, green, blue], dim=1)


def test_one_is_tried_on_images_that_it_says_it_can_defend() -> None:
    assert {o.name: o.sentence for o in run_checks(ColoursAlone()) if o.verdict == "failed"} == {}
    for broken, said in ((Undecided(), "its unsuited failed with KeyError"), (Unsuited(), "can defend none")):
        found = failed(run_checks(broken))
        assert list(found) == ["fit"] and said in found["fit"]
