"""A scenario: everything needed to repeat one run, as one immutable object, one JSON text, one URL.

>>> scenario = Scenario(indices=(0, 1, 3, 4), mode="fedavg", local_epochs=5)
>>> scenario.batch_size, scenario.composition
(4, None)
>>> scenario.to_query()
{'indices': '0,1,3,4', 'mode': 'fedavg', 'local_epochs': '5'}
>>> Scenario.from_query(scenario.to_query()) == scenario
True
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.seeds import derive_seed
from deepleak_core.text import escape, shorten, split_list, unknown

Composition = Literal["distinct", "pair", "half", "same", "random", "skewed"]
Mode = Literal["fedsgd", "fedavg"]
BatchNormMode = Literal["eval", "train"]
LocalOrder = Literal["unknown", "known"]
FedAvgMethod = Literal["averaged", "surrogate", "simulated", "corrected"]

COMPOSITIONS: dict[Composition, str] = {
    "distinct": "all different",
    "pair": "one pair",
    "half": "half and half",
    "same": "all the same",
    "random": "random draw",
    "skewed": "skewed draw",
}
FEDAVG_METHODS: dict[FedAvgMethod, str] = {
    "averaged": "the weight change divided by learning rate and steps is taken for the gradient",
    "surrogate": "the gradient at a learned point between the weights before and after",
    "simulated": "the local steps are simulated and differentiated through",
    "corrected": "the gradient halfway through the local steps, corrected every few iterations by simulating them",
}
LOCAL_ORDERS: dict[LocalOrder, str] = {
    "unknown": "the client shuffles its images in every epoch and keeps the order secret",
    "known": "the client goes through its images class by class, as a loader reads folders, and the server knows it",
}
LOCAL_SETTINGS = ("local_epochs", "local_batch_size", "local_lr", "local_momentum", "local_order", "fedavg")


FOLDER_DATASETS = ("folder", "grey-folder")  # data sets that consist of the images in a folder of class folders


def _split(value: object) -> object:
    """A list as a tuple of texts; one written as text, such as "0,1,3", is split at its commas."""
    if isinstance(value, str):
        value = split_list(value)
    if isinstance(value, Sequence):
        return tuple(str(part) for part in value if part != "") or None
    return value


def _split_numbers(value: object) -> object:
    """The same for numbers. Refuses ranges such as "0-3", which pydantic reads as -3."""
    parts = _split(value)
    if isinstance(parts, tuple) and not all(re.fullmatch(r"[0-9]{1,18}", part) for part in parts):
        raise ValueError(
            f"indices were {shorten(','.join(parts))}; accepted are different numbers from 0 up, such as 0,1,3,4: "
            "name each image once."
        )
    return parts


class Scenario(BaseModel):
    """One repeatable run. Invalid values raise `UnsupportedScenario` with a sentence for each problem.

    The same scenario on the same device gives the same result. Give at most one of `indices`
    and `labels`; with neither, `composition` picks `batch_size` images by `seed`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field("cifar10-samples", description="data set the private batch comes from")
    images: str | None = Field(None, description="folder of class folders to take the images from")
    image_size: int = Field(32, ge=32, le=224, description="height and width in pixels")
    indices: Annotated[tuple[int, ...] | None, BeforeValidator(_split_numbers)] = Field(
        None, description="which images of the data set, by number"
    )
    labels: Annotated[tuple[str, ...] | None, BeforeValidator(_split)] = Field(
        None, description="one image drawn for each class named here"
    )
    batch_size: int = Field(4, ge=1, le=4096, description="images in the private batch")
    composition: Composition | None = Field(None, description="how labels repeat in the batch")

    model: str = Field("lenet64-elu", description="target model")
    stage: str = Field("untrained", description="training stage of the target model")
    head_bias: bool = Field(True, description="whether the last layer has a bias")
    batchnorm: BatchNormMode = Field("eval", description="statistics BatchNorm layers use")

    mode: Mode = Field("fedsgd", description="what the client shares: a gradient or weights")
    local_epochs: int = Field(1, ge=1, le=100, description="FedAvg: passes over the batch")
    local_batch_size: int = Field(4, ge=1, le=4096, description="FedAvg: images in one local step")
    local_lr: float = Field(0.01, gt=0, le=10, description="FedAvg: learning rate of the client")
    local_momentum: float = Field(0.0, ge=0, le=0.99, description="FedAvg: share of a local step added to the next one")
    local_order: LocalOrder = Field("unknown", description="FedAvg: whether the server knows the order of mini-batches")

    attack: str = Field("general-deep-leakage", description="attack")
    fedavg: FedAvgMethod | None = Field(
        None, description="how the attack reads a FedAvg update, the attack's own if not given"
    )
    label_strategy: str | None = Field(
        None, description="label inference; the attack's own if not given, `true` to hand them over"
    )
    wrong_labels: int = Field(0, ge=0, le=4096, description="labels to falsify before the attack")
    mislabel: Annotated[tuple[str, ...] | None, BeforeValidator(_split)] = Field(
        None, description="labels to falsify by name: cat>dog labels one cat image as dog"
    )
    repair_labels: bool | None = Field(
        None,
        description="whether the attack may correct wrong labels; where counts are uncertain if not given",
    )
    feature_term: bool = Field(False, description="also match the features that are separated from the last layer")
    learning_rate: float | None = Field(None, gt=0, le=10, description="attack step, the attack's own if not given")
    total_variation: float | None = Field(
        None, ge=0, le=10, description="weight of the smoothness prior, the attack's own if not given"
    )
    restarts: int | None = Field(None, ge=1, le=16, description="starting points, the attack's own if not given")
    prior: Annotated[tuple[str, ...] | None, BeforeValidator(_split)] = Field(
        None, description="weights of image priors, such as total-variation=0.01, the attack's own if not given"
    )
    setting: Annotated[tuple[str, ...] | None, BeforeValidator(_split)] = Field(
        None, description="further settings of the attack, NAME=VALUE"
    )

    seed: int = Field(0, ge=0, le=2**31 - 1, description="determines everything random")
    max_seconds: float | None = Field(None, gt=0, le=86400, description="stop after this attack time")
    max_iterations: int | None = Field(None, ge=1, le=10**6, description="stop after so many iterations")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")

    def __init__(self, **values: Any):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UnsupportedScenario([s for e in error.errors() for s in _sentences(e)]) from error

    @field_validator("device")
    @classmethod
    def _device_is_known(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", device):
            raise ValueError(f"device was {shorten(repr(device))}; accepted are auto, cpu, cuda and cuda:N.")
        return device

    @field_validator("indices")
    @classmethod
    def _indices_are_distinct(cls, indices: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if indices and len(set(indices)) < len(indices):
            twice = next(index for index, times in Counter(indices).items() if times > 1)
            raise ValueError(
                f"indices were {shorten(','.join(map(str, indices)))} with {twice} more than once; accepted are "
                "different numbers from 0 up, such as 0,1,3,4: name each image once."
            )
        return indices

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Derive the batch size from a given choice of images; default the composition without one."""
        if not isinstance(values, dict):
            return values
        values = {name: value for name, value in values.items() if value is not None}
        empty = [name for name in ("indices", "labels") if name in values and _split(values[name]) is None]
        if empty:
            raise UnsupportedScenario([f"{name} was empty; name at least one, or leave it out." for name in empty])
        chosen = _split(values.get("indices")) or _split(values.get("labels"))
        if isinstance(chosen, tuple):
            values.setdefault("batch_size", len(chosen))
        else:
            values.setdefault("composition", "distinct")
        return values

    @model_validator(mode="after")
    def _agree(self) -> Scenario:
        problems = [*self._problems_of_batch(), *self._problems_of_labels(), *self._problems_of_client()]
        if problems:
            raise UnsupportedScenario(problems)
        return self

    def _problems_of_batch(self) -> list[str]:
        problems = []
        if self.indices and self.labels:
            problems.append("Both indices and labels were given; give one of them.")
        chosen = self.indices or self.labels
        if chosen and self.batch_size != len(chosen):
            problems.append(
                f"batch_size was {self.batch_size} but {len(chosen)} images were named; "
                "leave batch_size out, or name as many images."
            )
        if chosen and self.composition:
            problems.append(f"composition {self.composition!r} and a list of images were both given; give one of them.")
        if self.composition == "pair" and self.batch_size < 2:
            problems.append("composition 'pair' needs a batch of at least 2; make batch_size larger.")
        if self.composition == "half" and self.batch_size % 2:
            problems.append(
                f"composition 'half' needs an even batch, batch_size was {self.batch_size}; add or drop one."
            )
        if self.images == "":
            problems.append("images was empty; name a folder of class folders, or leave it out.")
        elif self.dataset in FOLDER_DATASETS and not self.images:
            problems.append(f"dataset {self.dataset!r} needs images, a folder of class folders; name one.")
        return problems

    def _problems_of_labels(self) -> list[str]:
        problems = []
        if self.wrong_labels > self.batch_size:
            problems.append(
                f"wrong_labels was {self.wrong_labels}, the batch has {self.batch_size} images; "
                "at most all of them can be wrong."
            )
        if self.mislabel and self.wrong_labels:
            problems.append("Both wrong_labels and mislabel were given; give one of them.")
        malformed = [swap for swap in self.mislabel or () if [*map(bool, split_list(swap, ">"))] != [True, True]]
        if malformed:
            problems.append(f"mislabel was {shorten(repr(malformed[0]))}; accepted are pairs of classes like cat>dog.")
        return problems

    def _problems_of_client(self) -> list[str]:
        if self.mode == "fedavg":
            return []
        return [
            f"{name} applies to mode 'fedavg' only; leave it out or switch the mode."
            for name in LOCAL_SETTINGS
            if getattr(self, name) != type(self).model_fields[name].default
        ]

    def changed(self, **values: Any) -> Scenario:
        """A copy with some values replaced, validated again.

        >>> Scenario().changed(wrong_labels=1).wrong_labels
        1
        """
        return Scenario(**{**self.to_values(), **values})

    def to_values(self) -> dict[str, Any]:
        """Only the settings that differ from their defaults."""
        values = self.model_dump(exclude_defaults=True)
        if self.composition == "distinct":
            del values["composition"]
        if self.indices or self.labels:
            values.pop("batch_size", None)
        return values

    def to_json(self) -> str:
        """The whole scenario as JSON text; `from_json` gives an equal one back."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> Scenario:
        """Read a scenario from JSON text. Raises `UnsupportedScenario` where it is none."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise UnsupportedScenario([s for e in error.errors() for s in _sentences(e)]) from error

    def to_query(self) -> dict[str, str]:
        """URL parameters, defaults left out; `from_query` gives an equal scenario back."""
        return {name: _as_text(value) for name, value in self.to_values().items()}

    @classmethod
    def from_query(cls, query: Mapping[str, str | list[str]]) -> Scenario:
        """Read URL parameters; names that are no setting of a scenario (such as `run`) are left alone."""
        values: dict[str, Any] = {}
        for name, value in query.items():
            if name in LISTS:  # also as a parameter that is repeated
                values[name] = [
                    part for text in ([value] if isinstance(value, str) else value) for part in split_list(text)
                ]
            elif name in cls.model_fields:
                values[name] = value if isinstance(value, str) else value[-1]
        return cls(**values)

    def seed_for(self, purpose: str) -> int:
        """An independent seed for each random choice, so that changing one leaves the others as they are.

        >>> Scenario().seed_for("model") == Scenario(wrong_labels=1).seed_for("model")
        True
        """
        return derive_seed(self.seed, purpose)


LISTS = frozenset(name for name, field in Scenario.model_fields.items() if "tuple" in str(field.annotation))


def _as_text(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(escape(str(part)) for part in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


ACCEPTED = {"int": "are whole numbers", "float": "are numbers", "bool": "are true and false"}  # by kind of error


def _sentences(error: Any) -> tuple[str, ...]:
    """One pydantic error as one or more sentences that say what was given and what is accepted."""
    name = ".".join(map(str, error["loc"][:1])) or "scenario"
    kind, context, given = error["type"], error.get("ctx", {}), shorten(repr(error.get("input")))
    if kind == "value_error":
        cause = context["error"]
        return cause.problems if isinstance(cause, UnsupportedScenario) else (str(cause),)
    if kind == "extra_forbidden":
        return (f"{name!r} is no setting of a scenario; accepted are {', '.join(Scenario.model_fields)}.",)
    if kind == "literal_error":
        accepted = get_args(Scenario.model_fields[name].annotation)
        flat = [a for x in accepted for a in (get_args(x) or (x,)) if isinstance(a, str)]
        return (unknown(name, error.get("input"), flat),)
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        limits = {k: v for m in Scenario.model_fields[name].metadata for k, v in vars_of(m).items()}
        low = f"from {limits['ge']}" if "ge" in limits else f"above {limits['gt']}"
        return (f"{name} was {given}; accepted is a number {low} to {limits['le']}.",)
    if (accepts := ACCEPTED.get(kind.partition("_")[0])) is not None:
        return (f"{name} was {given}; accepted {accepts}.",)
    return (f"{name} was {given}; {error['msg'][0].lower()}{error['msg'][1:]}.",)


def vars_of(limit: object) -> dict[str, Any]:
    """The bounds one annotated limit carries, such as {'ge': 1}."""
    return {k: getattr(limit, k) for k in ("ge", "gt", "le", "lt") if hasattr(limit, k)}
