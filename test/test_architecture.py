"""What may import what, and other things that hold for every file of the sources.

The sources are read, not imported, and every import counts: at the top of a module, inside of a function, and under
TYPE_CHECKING.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

PACKAGE = "mirage_ros"
ROOT = Path(__file__).parents[1]
SOURCES = ROOT / PACKAGE

# From the ground up. A module may import what stands below it or in its own row; the longest name that fits counts.
LAYERS = (
    (
        *("atomic_files", "geometry", "images", "interrupts", "machine", "media", "page", "poses", "processes"),
        *("resources", "rgbd", "trajectory", "video", "visibility"),
    ),
    ("memory",),
    ("occupancy",),
    ("models",),
    ("perception",),
    ("world",),
    ("recordings", "sim"),
    ("evaluation",),
    ("training",),
    ("ros",),
    # The simulated camera is a node: it takes its conversions, its QoS and the form of its parameters from ros/.
    ("client", "sim.camera_node", "sim.camera_parameters"),
    ("demo",),
    ("viewer",),
    ("bench", "view", "cli", "doctor", "imagine", "imagine_inputs"),
    # Made by rosidl; only what may use rclpy imports them.
    ("msg", "srv", "action"),
)
LEVEL = {name: level for level, row in enumerate(LAYERS) for name in row}
GENERATED = LAYERS[-1]
# These stand below, and are left alone all the same.
NEVER = {"recordings": ("world",), "sim": ("world",), "ros": ("training", "evaluation")}
# `mirage view` listens to a running node, or needs none.
WITH_ROS = (
    *("ros", "client", "demo", "bench.node", "bench.soak", "sim.camera_node"),
    *("viewer.live", "viewer.rerun_log"),
)

MAX_LINES = 300
# Path below the repository: why it is one piece.
LONG_FILES: dict[str, str] = {
    "test/ros/test_conversions_fuzz.py": "a test for each message, all made of the same hostile values",
}
COUNTED = (".py", ".c", ".h")


def inside(module: str, names: tuple[str, ...]) -> bool:
    """Whether a module is one of these or lies in one of these packages."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


def unit(module: str) -> str:
    """The entry of LAYERS that a module belongs to.

    Raises:
        KeyError: it belongs to none.
    """
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in LEVEL:
            return name
    raise KeyError(f"{module}: expected a module of a part that LAYERS lists")


def module_files(sources: Path) -> dict[str, Path]:
    """Module name without the package's own: the file that holds it."""
    files = {}
    for path in sorted(sources.rglob("*.py")):
        parts = path.relative_to(sources).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imported(path: Path, module: str) -> Iterator[tuple[str, str]]:
    """(module, name) of all imports of a file, absolute; the name is empty for `import module`."""
    package = f"{PACKAGE}.{module}".rstrip(".").split(".")
    if path.stem != "__init__":
        package.pop()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            yield from ((source, alias.name) for alias in node.names)


def import_graph(sources: Path) -> dict[str, set[str]]:
    """For each module the modules of the package that it names; that a package is loaded on the way does not count."""
    files = module_files(sources)
    graph = {}
    for module, path in files.items():
        graph[module] = set()
        for source, name in imported(path, module):
            package, _, rest = source.partition(".")
            if package == PACKAGE:
                deeper = f"{rest}.{name}".strip(".")
                graph[module].add(deeper if deeper in files or deeper.split(".")[0] in GENERATED else rest)
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that all lead to one another, and nodes that lead to themselves."""
    names = sorted(graph)
    index = {name: number for number, name in enumerate(names)}
    edges = [(index[a], index[b]) for a in names for b in graph[a] if b in index]
    rows, columns = np.array(edges, int).reshape(-1, 2).T
    matrix = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(names), len(names)))
    labels = connected_components(matrix, directed=True, connection="strong")[1]
    groups = [[name for name in names if labels[index[name]] == label] for label in range(labels.max() + 1)]
    return [group for group in groups if len(group) > 1 or group[0] in graph[group[0]]]


def wrong_directions(graph: dict[str, set[str]]) -> list[str]:
    wrong = []
    for module, targets in graph.items():
        for target in sorted(filter(None, targets)):
            if target.split(".")[0] in GENERATED:
                continue
            upwards = LEVEL[unit(target)] > LEVEL[unit(module)]
            if upwards or inside(target, NEVER.get(unit(module), ())):
                wrong.append(f"{module} imports {target}")
    return wrong


def ros_users(sources: Path) -> list[str]:
    """Modules outside of WITH_ROS that import rclpy or the package's generated interfaces."""
    ros = ("rclpy", *(f"{PACKAGE}.{name}" for name in GENERATED))
    return [
        module
        for module, path in module_files(sources).items()
        if not inside(module, WITH_ROS)
        and any(inside(f"{source}.{name}".strip("."), ros) for source, name in imported(path, module))
    ]


def repeated_classes(sources: Path) -> dict[str, list[str]]:
    """Public top-level class names that stand in more than one module."""
    places = defaultdict(list)
    for module, path in module_files(sources).items():
        for node in ast.parse(path.read_text(), str(path)).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    return {name: modules for name, modules in places.items() if len(modules) > 1}


def long_files(root: Path) -> dict[str, int]:
    """Files with more than MAX_LINES lines, of the package, its tests and its examples."""
    lengths = {
        str(path.relative_to(root)): len(path.read_text().splitlines())
        for folder in (PACKAGE, "test", "examples", "tools", "launch")
        for path in sorted((root / folder).rglob("*"))
        if path.suffix in COUNTED
    }
    return {path: length for path, length in lengths.items() if length > MAX_LINES}


@pytest.fixture(scope="module")
def graph():
    return import_graph(SOURCES)


def test_every_part_has_its_place_in_the_order(graph):
    assert {unit(module) for module in graph if module} == set(LEVEL) - set(GENERATED)


def test_no_circle_of_modules(graph):
    assert not circles(graph), "\n".join(map(str, circles(graph)))


def test_no_circle_of_parts(graph):
    parts = defaultdict(set)
    for module, targets in graph.items():
        for target in filter(None, targets if module else ()):
            parts[unit(module)] |= {unit(target)} - {unit(module)}
    assert not circles(parts), "\n".join(map(str, circles(parts)))


def test_imports_point_downwards(graph):
    assert not wrong_directions(graph), "\n".join(wrong_directions(graph))


def test_ros_stays_where_it_belongs():
    assert not ros_users(SOURCES), "\n".join(ros_users(SOURCES))


def test_no_class_name_twice():
    repeated = repeated_classes(SOURCES)
    assert not repeated, "\n".join(f"{name}: {', '.join(modules)}" for name, modules in sorted(repeated.items()))


def test_no_file_is_long_without_a_reason():
    unexplained = {path: lines for path, lines in long_files(ROOT).items() if path not in LONG_FILES}
    assert not unexplained, "\n".join(f"{path}: {lines} lines" for path, lines in unexplained.items())
    assert set(LONG_FILES) <= set(long_files(ROOT)), "a listed file is short now, or gone"


def test_the_checks_see_what_they_look_for(tmp_path):
    sources = tmp_path / PACKAGE
    files = {
        "geometry.py": "def late():\n    from mirage_ros.memory import write\n",
        "memory/__init__.py": "from mirage_ros.memory.read import Readout\n",
        "memory/read.py": "if TYPE_CHECKING:\n    from mirage_ros.memory.write import Report\nclass Readout: ...\n",
        "memory/write.py": "from .read import Readout\nfrom mirage_ros.geometry import Camera\n",
        "ros/node.py": "import mirage_ros.training.loop\nimport rclpy\n",
        "training/loop.py": "from mirage_ros import msg\nclass Readout: ...\nclass _Private: ...\n" + "\n" * MAX_LINES,
        "world/model.py": "import rclpy.node\nclass _Private: ...\n",
    }
    for name, text in files.items():
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).write_text(text)
    graph = import_graph(sources)
    assert circles(graph) == [["geometry", "memory.read", "memory.write"]]
    assert wrong_directions(graph) == ["geometry imports memory.write", "ros.node imports training.loop"]
    assert ros_users(sources) == ["training.loop", "world.model"]
    assert repeated_classes(sources) == {"Readout": ["memory.read", "training.loop"]}
    assert long_files(tmp_path) == {f"{PACKAGE}/training/loop.py": MAX_LINES + 3}
