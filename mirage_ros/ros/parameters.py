"""Parameters declared from a table, so that types, ranges, units and descriptions stand in one place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.node import Node

Value = bool | int | float | str


@dataclass(frozen=True)
class Parameter:
    """One row of a node's parameter table.

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

    def descriptor(self) -> ParameterDescriptor:
        """What ROS tools show and rclpy enforces."""
        descriptor = ParameterDescriptor(
            name=self.name, description=self.description, read_only=not self.runtime, dynamic_typing=False
        )
        if self.choices:
            descriptor.additional_constraints = "one of " + ", ".join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            if isinstance(self.default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(self.minimum), to_value=float(self.maximum))
                ]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum))]
        return descriptor

    def expectation(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        kind = type(self.default).__name__
        if self.minimum is not None and self.maximum is not None:
            return f"{kind} from {self.minimum:g} to {self.maximum:g}"
        return kind


def declare(node: Node, table: Iterable[Parameter]) -> dict[str, Any]:
    """Declare every parameter of a table and read its value.

    Raises:
        ValueError: an override has the wrong type or is out of range; names the parameter and the expectation.
    """
    values: dict[str, Any] = {}
    for row in table:
        try:
            value: Any = node.declare_parameter(row.name, row.default, row.descriptor()).value
        except ParameterException as error:
            given = node._parameter_overrides.get(row.name)
            got = repr(given.value) if given is not None else str(error)
            raise ValueError(f"parameter {row.name}: expected {row.expectation()}, got {got}") from error
        check_choice(row, value)
        values[row.name] = value
    return values


def check_choice(row: Parameter, value: Value) -> None:
    """Refuse a string outside the row's choices."""
    if row.choices and value not in row.choices:
        raise ValueError(f"parameter {row.name}: expected {row.expectation()}, got {value!r}")
