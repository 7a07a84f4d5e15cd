"""Who asks what: mixes of customers, channels and context, read from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, TypeVar

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engine._pb.arbiter.v1 import decision_service_pb2, types_pb2
from loadtest.errors import FileInvalid

FOLDER: Final = Path(__file__).resolve().parent / "profiles"
DEFAULT: Final = "company"

Fact = bool | int | float | str
Share = Annotated[float, Field(gt=0)]
_Model = TypeVar("_Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Customers(_Strict):
    """Which customers ask, and how unevenly.

    `pattern` holds one `{}` for a number `first` to `last`, filled with zeros to `digits`; or `file` names a
    text file with one id a line. With `skew` s the customer of rank k asks in proportion to 1 / k ** s, as
    few do much and many little; 0 is everybody alike.
    """

    pattern: str = ""
    first: Annotated[int, Field(ge=0)] = 1
    last: Annotated[int, Field(ge=0)] = 1
    digits: Annotated[int, Field(ge=1, le=32)] = 1
    file: Path | None = None
    skew: Annotated[float, Field(ge=0, le=5)] = 0.0

    @model_validator(mode="after")
    def _one_source(self) -> Customers:
        if bool(self.pattern) == (self.file is not None):
            raise ValueError("give either `pattern` or `file`")
        if self.pattern and self.pattern.count("{}") != 1:
            raise ValueError("`pattern` must hold {} once")
        if self.last < self.first:
            raise ValueError("`last` is before `first`")
        return self

    def ids(self, folder: Path) -> list[str]:
        """All ids. Raises FileInvalid; a relative file is beside the profile."""
        if self.file is None:
            numbers = range(self.first, self.last + 1)
            return [self.pattern.replace("{}", f"{number:0{self.digits}d}") for number in numbers]
        path = folder / self.file
        try:
            found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except OSError as error:
            raise FileInvalid(path, f"cannot be read: {error.strerror}") from error
        if not found:
            raise FileInvalid(path, "holds no customer id; one is needed on each line")
        return found


class Traffic(_Strict):
    """One kind of request, and its share of all. `context` gives each fact its values with their shares."""

    name: str
    share: Share
    channel: str
    placement: str = ""
    limit: Annotated[int, Field(ge=1, le=100)] | None = None
    language: str = ""
    context: Mapping[str, Mapping[Fact, Share]] = {}


class Profile(_Strict):
    """A mix of traffic."""

    name: str
    description: str = ""
    customers: Customers
    traffic: Annotated[tuple[Traffic, ...], Field(min_length=1)]


def load_profile(name: str) -> tuple[Profile, Path]:
    """A profile by path, or one that Arbiter brings by its name; and its folder. Raises FileInvalid."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
            raise FileInvalid(
                name, f"no such profile: Arbiter brings {known}; or give a path ending in .yaml"
            )
    return read_yaml(path, Profile), path.parent


def read_yaml(path: Path, model: type[_Model]) -> _Model:
    """A checked YAML file. Raises FileInvalid with every problem and its place."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return model.model_validate(content)
    except OSError as error:
        raise FileInvalid(path, f"cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileInvalid(path, f"is no YAML: {error}") from error
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise FileInvalid(path, told) from error


def requests_of(profile: Profile, folder: Path, *, count: int, rng: np.random.Generator) -> list[bytes]:
    """Serialized DecideRequests, drawn from the mix."""
    ids = profile.customers.ids(folder)
    weights = 1.0 / np.arange(1, len(ids) + 1) ** profile.customers.skew
    ranked = rng.permutation(len(ids))  # who asks most must not be who was numbered first
    customers = ranked[rng.choice(len(ids), count, p=weights / weights.sum())]
    shares = np.array([traffic.share for traffic in profile.traffic])
    kinds = rng.choice(len(shares), count, p=shares / shares.sum())
    facts = [_Facts(traffic, rng) for traffic in profile.traffic]
    return [
        _request(profile.traffic[kind], ids[customer], facts[kind].drawn())
        for kind, customer in zip(kinds.tolist(), customers.tolist(), strict=True)
    ]


class _Facts:
    """Draws the context of one kind of request."""

    def __init__(self, traffic: Traffic, rng: np.random.Generator) -> None:
        self._rng = rng
        self._choices = {
            name: (list(values), np.array(list(values.values())) / sum(values.values()))
            for name, values in traffic.context.items()
        }

    def drawn(self) -> dict[str, Fact]:
        return {
            name: values[int(self._rng.choice(len(values), p=shares))]
            for name, (values, shares) in self._choices.items()
        }


def _request(traffic: Traffic, customer_id: str, facts: Mapping[str, Fact]) -> bytes:
    request = decision_service_pb2.DecideRequest(
        customer_id=customer_id,
        channel=traffic.channel,
        placement=traffic.placement,
        language=traffic.language,
    )
    if traffic.limit is not None:
        request.limit = traffic.limit
    for name, fact in facts.items():
        if fact != "":  # the customer did not say
            request.context[name].CopyFrom(_context_value(fact))
    return request.SerializeToString(deterministic=True)


def _context_value(fact: Fact) -> types_pb2.ContextValue:
    match fact:
        case bool():
            return types_pb2.ContextValue(bool_value=fact)
        case int():
            return types_pb2.ContextValue(int_value=fact)
        case float():
            return types_pb2.ContextValue(double_value=fact)
        case _:
            return types_pb2.ContextValue(string_value=fact)
