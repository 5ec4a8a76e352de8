"""`mirage doctor`: what works on this machine, what does not, and what to do about it, on one screen."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mirage_ros.machine import multiplies_bfloat16, usable_cores
from mirage_ros.resources import weights_directory

# Marks at the beginning of a line.
GOOD, PART, BAD = "ok", "--", "!!"


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, in a group, what there is, and what to do, if anything.

    Attributes:
        state: GOOD, PART (optional and not usable here) or BAD (needed and not usable).
    """

    topic: str
    name: str
    state: str
    found: str
    advice: str = ""


def judged(topic: str, name: str, works: bool, found: str, otherwise: str, advice: str, worst: str = PART) -> Finding:
    """A finding that is GOOD if something works, and else the `worst` with what is the case then and advice."""
    return Finding(topic, name, GOOD, found) if works else Finding(topic, name, worst, otherwise, advice)


def version(package: str) -> str:
    """Version of an installed distribution, empty if there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def importable(module: str) -> bool:
    """Whether a module could be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def cached(repository: str) -> bool:
    """Whether the hub's local cache holds a snapshot of a repository."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
    return folder.is_dir() and any(folder.iterdir())


def check_system(_: Path) -> Iterator[Finding]:
    """Python, torch and accelerators."""
    import torch

    yield Finding("system", "python", GOOD, f"{platform.python_version()} at {sys.executable}")
    yield Finding("system", "torch", GOOD, f"{torch.__version__}, {torch.get_num_threads()} threads")
    fast = multiplies_bfloat16()
    dtype = "bfloat16" if fast else "float32, it has no fast bfloat16"
    found = f"networks in {dtype}; {usable_cores()} cores"
    yield Finding("system", "processor", GOOD, found)
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        half = "bf16" if multiplies_bfloat16("cuda") else "fp16"
        found = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {half}"
        yield Finding("system", f"cuda:{index}", GOOD, found)
    if not torch.cuda.is_available():
        install = "the NVIDIA driver" if torch.version.cuda else "a CUDA build of torch (pytorch.org) for a GPU"
        yield Finding("system", "cuda", PART, "none: everything runs on the CPU", f"install {install}")
    advice = "pip install triton (Linux): faster reads on CUDA"
    yield judged("system", "triton", importable("triton"), version("triton"), "not installed", advice)


def check_models(weights: Path) -> Iterator[Finding]:
    """Presets and where their weights are."""
    from mirage_ros.models.presets import PRESETS

    for name, preset in PRESETS.items():
        size = f"{preset.height}x{preset.width}, {preset.chunk_frames} frames a chunk"
        if name == "test":
            yield Finding("presets", name, GOOD, f"{size}, random weights by design")
        elif preset.weights:
            found, missing = (f"{size}; {preset.weights} is {where} the cache" for where in ("in", "not in"))
            yield judged("presets", name, cached(preset.weights), found, missing, f"hf download {preset.weights}")
        else:
            there = (weights / "transformer" / "config.json").is_file()
            found, missing = (f"{size}; {weights} has {what} weights" for what in ("the", "no"))
            yield judged("presets", name, there, found, missing, "give --weights FOLDER, or train them", BAD)


def check_perception(_: Path) -> Iterator[Finding]:
    """Depth estimators and filters by name."""
    import transformers

    from mirage_ros.perception import depth_anything, open_vocabulary, video_segmenter
    from mirage_ros.perception.packaged_depth import MapAnythingDepth, UniDepth
    from mirage_ros.perception.registry import DEPTHS, FILTERS

    sam = hasattr(transformers, "Sam3VideoModel")
    needs: dict[str, tuple[bool, str, tuple[str, ...]]] = {
        # name: (whether the code is there, what installs it, the weights it asks for)
        "depth-anything": (True, "", (depth_anything.INDOOR,)),
        "map-anything": (importable("mapanything"), MapAnythingDepth.COMMAND, (MapAnythingDepth.SOURCE,)),
        "unidepth": (importable("unidepth"), UniDepth.COMMAND, (UniDepth.SOURCE,)),
        "open-vocabulary": (sam, "pip install 'transformers>=5'", (open_vocabulary.QWEN, video_segmenter.SAM3)),
    }
    rows = [("depth", *row) for row in DEPTHS.items()] + [("filter", *row) for row in FILTERS.items()]
    for topic, name, what in rows:
        installed, command, sources = needs.get(name, (True, "", ()))
        missing = ", ".join(source for source in sources if not cached(source))
        if installed:
            advice = f"hf download {missing.split(',')[0]}, or give a folder"
            yield judged(topic, name, not missing, what, f"code is there; not in the cache: {missing}", advice)
        else:
            yield Finding(topic, name, PART, "its package is not installed", command)


def check_drawing(_: Path) -> Iterator[Finding]:
    """OpenGL without a screen, tried by drawing one small picture in a process of its own."""
    code = (
        "from mirage_ros.sim.renderer import Renderer\n"
        "from mirage_ros.sim.scene import build_scene\n"
        "import torch, os\n"
        "with Renderer(build_scene(0, moving=0), 16, 16) as r:\n"
        "    r.render(torch.eye(4))\n"
        "print(os.environ['MUJOCO_GL'])\n"
    )
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        yield Finding("simulator", "OpenGL", BAD, "drawing did not end within 300 s", "try MUJOCO_GL=osmesa")
        return
    said = (done.stdout if done.returncode == 0 else done.stderr).split("\n")
    last = next((line for line in reversed(said) if line.strip()), f"exit status {done.returncode}")
    advice = "apt-get install libegl1 libgl1-mesa-dri (or libosmesa6 and MUJOCO_GL=osmesa)"
    yield judged("simulator", "OpenGL", done.returncode == 0, f"draws through {last}", last[:160], advice, BAD)


def check_ros(_: Path) -> Iterator[Finding]:
    """ROS 2 and its middleware."""
    found = version("ros-rclpy") or "of a sourced installation"
    advice = "source /opt/ros/DISTRO/setup.bash, or run make setup"
    yield judged("ROS 2", "rclpy", importable("rclpy"), found, "not importable by this Python", advice, BAD)
    if not importable("rclpy"):
        return
    built = importable("mirage_ros.msg")
    found, missing = (f"the package's own messages are {state}" for state in ("built", "not built"))
    advice = "run make setup (pip) or colcon build; sources alone have no messages"
    yield judged("ROS 2", "mirage_ros.msg", built, found, missing, advice, BAD)
    names = ("RMW_IMPLEMENTATION", "ROS_DOMAIN_ID", "ROS_LOCALHOST_ONLY")
    settings = ", ".join(f"{name}={os.environ[name]}" for name in names if os.environ.get(name))
    yield Finding("ROS 2", "DDS", GOOD, settings or "defaults")
    profile = os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE") or os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE")
    found = profile or "the package's config/fastdds.xml in its own executables, Fast DDS's defaults in others"
    there = not profile or Path(profile).is_file()
    yield judged("ROS 2", "Fast DDS profile", there, found, f"{profile} does not exist", "unset or correct it", BAD)
    # Room for shared-memory transport, which containers often limit to 64 MiB.
    try:
        stats = os.statvfs("/dev/shm")
        size = stats.f_frsize * stats.f_blocks / 2**20
        found, advice = f"{size:.0f} MiB", "in a container: --shm-size=512m or --ipc=host"
    except OSError:
        size, found, advice = 0.0, "not there: large messages go through UDP", ""
    yield judged("ROS 2", "/dev/shm", size >= 128, found, found, advice)


OPTIONAL = {
    # module: (distribution, what for, command that installs it)
    "viser": ("viser", "mirage view", "pip install 'mirage_ros[view]'"),
    "rerun": ("rerun-sdk", "mirage view --rerun", "pip install 'mirage_ros[viz]'"),
    "matplotlib": ("matplotlib", "figures", "pip install 'mirage_ros[viz]'"),
    "tensorboard": ("tensorboard", "training curves", "pip install 'mirage_ros[train]'"),
    "torchvision": ("torchvision", "transformers' own image processors", "pip install torchvision"),
}


def check_packages(_: Path) -> Iterator[Finding]:
    """Optional packages and the extras that install them."""
    for module, (package, purpose, command) in OPTIONAL.items():
        found = f"{version(package)}, {purpose}"
        yield judged("packages", package, importable(module), found, f"not installed: no {purpose}", command)
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    state = "offline by HF_HUB_OFFLINE" if offline else "not tried; asked where a folder or the cache has no weights"
    yield Finding("packages", "model hub", GOOD, state)


# In the order in which they are shown; each gets the folder of the default preset's weights.
CHECKS = (check_system, check_models, check_perception, check_drawing, check_ros, check_packages)


def examine(weights: Path, checks: Iterable[Callable[[Path], Iterator[Finding]]] = CHECKS) -> list[Finding]:
    """Run every check; one that fails itself becomes a finding."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(weights)
        except Exception as error:
            findings.append(Finding("doctor", check.__name__, BAD, f"{type(error).__name__}: {error}"))
    return findings


def report(findings: list[Finding]) -> str:
    """The screen: a line for each finding, its advice under it."""
    lines, topic = [], ""
    for finding in findings:
        shown = finding.topic if finding.topic != topic else ""
        topic = finding.topic
        lines.append(f"{shown:<10} {finding.state} {finding.name:<18} {finding.found}")
        if finding.advice:
            lines.append(f"{'':<33}-> {finding.advice}")
    bad, part = (sum(finding.state == state for finding in findings) for state in (BAD, PART))
    return "\n".join([*lines, "", f"{bad} needed and not usable ({BAD}), {part} optional and not usable ({PART})"])


def main() -> None:
    """Print the report; exit status 1 if something that is needed does not work."""
    parser = argparse.ArgumentParser(prog="mirage doctor", description=__doc__)
    parser.add_argument("--weights", type=Path, help="folder of the default preset's weights")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_args()
    findings = examine(options.weights or weights_directory() / "default")
    print(json.dumps([asdict(finding) for finding in findings]) if options.json else report(findings))
    sys.exit(any(finding.state == BAD for finding in findings))
