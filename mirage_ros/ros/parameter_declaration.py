"""Declaring a list of parameters on a node, so that ROS tools show, and rclpy enforces, what its rows say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from mirage_ros.ros.parameter_rows import Parameter
from mirage_ros.ros.parameters import MirageParameters

# What rclpy and its tools set on any node.
_RCLPY_NAMES = ("use_sim_time", "start_type_description_service", "qos_overrides.")


def declare(node: Node, table: Iterable[Parameter]) -> dict[str, Any]:
    """Declare every parameter of a table and read its value.

    A whole number is taken for a real one, now and later. Overrides of parameters that the node does not have are
    refused: they are misspelt, and would silently do nothing.

    Raises:
        ValueError: an override has an unknown name or the wrong type, or is out of range; names the parameter and the
            expectation.
    """
    rows, overrides = {row.name: row for row in table}, node._parameter_overrides
    known = (*rows, *node.get_parameters_by_prefix(""))
    for name in overrides:
        if name not in known and not name.startswith(_RCLPY_NAMES):
            raise ValueError(f"parameter {name}: expected one of {', '.join(sorted(rows))}")
    values: dict[str, Any] = {}
    for name, row in rows.items():
        if name in overrides:
            overrides[name] = RosParameter(name, value=row.checked(overrides[name].value))
        values[name] = node.declare_parameter(name, row.default, _descriptor(row)).value

    def as_declared(changes: list[RosParameter[Any]]) -> list[RosParameter[Any]]:
        real = {name for name, row in rows.items() if isinstance(row.default, float)}
        return [
            RosParameter(change.name, value=float(change.value))
            if change.name in real and type(change.value) is int
            else change
            for change in changes
        ]

    def judge(changes: list[RosParameter[Any]]) -> SetParametersResult:
        try:
            for change in changes:
                if change.name in rows:
                    rows[change.name].checked(change.value)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_pre_set_parameters_callback(as_declared)
    node.add_on_set_parameters_callback(judge)
    return values


def _descriptor(row: Parameter) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        name=row.name, description=row.description, read_only=not row.runtime, dynamic_typing=False
    )
    if row.choices:
        descriptor.additional_constraints = row.expectation()
    if row.minimum is not None and row.maximum is not None:
        if isinstance(row.default, float):
            limits = FloatingPointRange(from_value=float(row.minimum), to_value=float(row.maximum))
            descriptor.floating_point_range = [limits]
        else:
            descriptor.integer_range = [IntegerRange(from_value=int(row.minimum), to_value=int(row.maximum))]
    return descriptor


class LiveParameters:
    """The parameters of a node `mirage` as they are now.

    Attributes:
        current: replaced as a whole when one changes; any thread may look at it.
    """

    def __init__(self, node: Node) -> None:
        """Declare them on the node; see `declare`."""
        self._values = declare(node, MirageParameters.rows())
        self.current = MirageParameters.of(self._values)
        node.add_post_set_parameters_callback(self._note)

    def _note(self, changes: list[RosParameter[Any]]) -> None:
        self._values.update({change.name: change.value for change in changes if change.name in self._values})
        self.current = MirageParameters.of(self._values)
