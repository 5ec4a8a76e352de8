"""Parameters declared from a table, so that types, ranges, units and descriptions stand in one place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

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
            return f"{kind} from {self.minimum} to {self.maximum}"
        return kind


def declare(node: Node, table: Iterable[Parameter]) -> dict[str, Any]:
    """Declare every parameter of a table and read its value.

    A whole number is taken for a float. Overrides of parameters that the node does not have are refused: they are
    misspelt, and would silently do nothing.

    Raises:
        ValueError: an override has an unknown name or the wrong type, or is out of range; names the parameter and the
            expectation.
    """
    rows = tuple(table)
    _check_names(node, {row.name for row in rows})
    values: dict[str, Any] = {}
    for row in rows:
        _accept_whole_number(node, row)
        try:
            value: Any = node.declare_parameter(row.name, row.default, row.descriptor()).value
        except ParameterException as error:
            given = node._parameter_overrides.get(row.name)
            got = repr(given.value) if given is not None else str(error)
            raise ValueError(f"parameter {row.name}: expected {row.expectation()}, got {got}") from error
        check_choice(row, value)
        values[row.name] = value
    node.add_on_set_parameters_callback(lambda changes: _judge_choices(rows, changes))
    return values


def check_choice(row: Parameter, value: Value) -> None:
    """Refuse a string outside the row's choices."""
    if row.choices and value not in row.choices:
        raise ValueError(f"parameter {row.name}: expected {row.expectation()}, got {value!r}")


# What rclpy and its tools set on any node.
_RCLPY_NAMES = ("use_sim_time", "start_type_description_service", "qos_overrides.")


def _check_names(node: Node, names: set[str]) -> None:
    known = (*names, *node.get_parameters_by_prefix(""))
    for name in node._parameter_overrides:
        if name not in known and not name.startswith(_RCLPY_NAMES):
            raise ValueError(f"parameter {name}: expected one of {', '.join(sorted(names))}")


def _accept_whole_number(node: Node, row: Parameter) -> None:
    given = node._parameter_overrides.get(row.name)
    if isinstance(row.default, float) and given is not None and type(given.value) is int:
        node._parameter_overrides[row.name] = RosParameter(row.name, value=float(given.value))


def _judge_choices(rows: tuple[Parameter, ...], changes: list[RosParameter]) -> SetParametersResult:
    """Refuse later changes outside a row's choices; rclpy itself knows types and ranges only."""
    values = {change.name: change.value for change in changes}
    for row in rows:
        if row.name in values:
            try:
                check_choice(row, values[row.name])
            except ValueError as error:
                return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)
