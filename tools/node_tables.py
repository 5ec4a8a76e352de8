"""`python tools/node_tables.py`: the tables of docs/node.md, from those that the node itself is made from."""

from __future__ import annotations

from typing import Any

from mirage_ros.ros.parameter_rows import Parameter
from mirage_ros.ros.parameters import PARAMETERS
from mirage_ros.ros.topics import ACTIONS, CAMERA, INPUTS, LATCHED, OUTPUT, OUTPUTS, RELIABLE, SERVICES

_DELIVERY = {
    CAMERA: "`observation.reliability`",
    OUTPUT: "`output.reliability`",
    RELIABLE: "reliable",
    LATCHED: "reliable, last one kept",
}


def kind_name(kind: Any) -> str:
    """A message, service or action class as ROS writes it, such as sensor_msgs/msg/Image."""
    package, group, *_ = kind.__module__.split(".")
    return f"{package}/{group}/{kind.__name__}"


def topic_table() -> str:
    """Markdown table of the topics."""
    rows = [
        f"| {way} `{row.name}` | {kind_name(row.kind)} | {_DELIVERY[row.delivery]} | {row.description} |"
        for way, rows in (("in", INPUTS), ("out", OUTPUTS))
        for row in rows
    ]
    return "\n".join(["| topic | type | delivery | what |", "|---|---|---|---|", *rows])


def service_table() -> str:
    """Markdown table of services and actions."""
    rows = [
        f"| {what} `{name}` | {kind_name(kind)} | {description} |"
        for what, rows in (("service", SERVICES), ("action", ACTIONS))
        for name, kind, description in rows
    ]
    return "\n".join(["| name | type | what |", "|---|---|---|", *rows])


def parameter_table() -> str:
    """Markdown table of the parameters."""
    rows = [
        f"| `{row.name}`{' (live)' if row.runtime else ''} | {_default(row)} | {row.description} {_values(row)}|"
        for row in PARAMETERS
    ]
    return "\n".join(["| parameter | default | what |", "|---|---|---|", *rows])


def _default(row: Parameter) -> str:
    value = row.default
    return str(value).lower() if isinstance(value, bool) else str(value) or "(empty)"


def _values(row: Parameter) -> str:
    if row.choices:
        return f"One of {', '.join(f'`{choice}`' for choice in row.choices)}. "
    if row.minimum is not None and row.maximum is not None:
        return f"{_number(row.minimum)} to {_number(row.maximum)}. "
    return ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.4g}"


def main() -> None:
    """Print the tables."""
    print("\n\n".join([topic_table(), service_table(), parameter_table()]))


if __name__ == "__main__":
    main()
