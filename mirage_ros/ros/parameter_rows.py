"""Rows of a node's list of parameters, and groups of them as dataclasses; free of ROS, so that launch files read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, TypeVar

Value = bool | int | float | str
Group = TypeVar("Group", bound="ParameterGroup")
# As rcl reads them in its parameter files.
TRUE = ("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y")
FALSE = ("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N")


@dataclass(frozen=True)
class Parameter:
    """One row of a node's list of parameters.

    Attributes:
        name: of the parameter; dots make groups.
        default: its type is the parameter's type.
        description: meaning and unit, one sentence.
        minimum, maximum: inclusive limits of a number, where it has any.
        choices: allowed values of a string, where it has a fixed set.
        runtime: may change while the node runs; otherwise it is read once at start-up.
    """

    name: str
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    runtime: bool = False

    def expectation(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        kind = type(self.default).__name__
        return kind if self.minimum is None else f"{kind} from {self.minimum} to {self.maximum}"

    def parsed(self, text: str) -> Any:
        """The value that a text on a command line stands for.

        Raises:
            ValueError: it is none of the expected ones; names the argument and the expectation.
        """
        value: Any = text
        try:
            if isinstance(self.default, bool):
                value = parse_boolean(text)
            elif not isinstance(self.default, str):
                value = type(self.default)(text)
            return self.checked(value)
        except ValueError:
            raise ValueError(f"argument {self.name}: expected {self.expectation()}, got {text!r}") from None

    def checked(self, value: Any) -> Any:
        """The value as the parameter's type; a whole number is taken for a real one.

        Raises:
            ValueError: it is none of the expected ones; names the parameter and the expectation.
        """
        if isinstance(self.default, float) and type(value) is int:
            value = float(value)
        fits = type(value) is type(self.default) and (not self.choices or value in self.choices)
        if fits and self.minimum is not None and self.maximum is not None:
            fits = self.minimum <= value <= self.maximum
        if not fits:
            raise ValueError(f"parameter {self.name}: expected {self.expectation()}, got {value!r}")
        return value


def parse_boolean(text: str) -> bool:
    """What YAML 1.1, and so ROS, takes for true or false; a ValueError for any other text."""
    for value, words in ((True, TRUE), (False, FALSE)):
        if text in words:
            return value
    raise ValueError(f"expected one of {', '.join((*TRUE, *FALSE))}, got {text!r}")


def row(
    default: Value,
    description: str,
    minimum: float | None = None,
    maximum: float | None = None,
    *,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:
    """A field of a group that is a parameter; see `Parameter`, `live` is its `runtime`."""
    rest = {"description": description, "minimum": minimum, "maximum": maximum, "choices": choices, "runtime": live}
    return field(default=default, metadata=rest)


class ParameterGroup:
    """Base of frozen dataclasses whose fields are parameters, or groups of them.

    Raises:
        ValueError: a value is none of those that its row expects.
    """

    prefix: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, entry in self.own_rows().items():
            object.__setattr__(self, name, entry.checked(getattr(self, name)))

    @classmethod
    def own_rows(cls) -> dict[str, Parameter]:
        """Rows of the fields that are no groups."""
        return {
            entry.name: Parameter(cls.prefix + entry.name, entry.default, **entry.metadata)
            for entry in fields(cls)  # type: ignore[arg-type]
            if entry.default is not MISSING
        }

    @classmethod
    def rows(cls) -> tuple[Parameter, ...]:
        """All rows, in the order of the fields."""
        rows: list[Parameter] = []
        for entry in fields(cls):  # type: ignore[arg-type]
            group: Any = entry.default_factory
            rows += [cls.own_rows()[entry.name]] if group is MISSING else group.rows()
        return tuple(rows)

    @classmethod
    def of(cls: type[Group], values: Mapping[str, Any]) -> Group:
        """From values by the full names of all parameters."""
        chosen = {}
        for entry in fields(cls):  # type: ignore[arg-type]
            group: Any = entry.default_factory
            chosen[entry.name] = values[cls.prefix + entry.name] if group is MISSING else group.of(values)
        return cls(**chosen)
