"""`mirage doctor`: what works on this machine, what does not, and what to do about it, on one screen."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from mirage_ros.resources import weights_directory

# Marks at the beginning of a line.
GOOD, PART, BAD = "ok", "--", "!!"


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        topic: group of the line.
        name: of what was looked at.
        state: GOOD, PART (optional and not usable here) or BAD (needed and not usable).
        found: what there is.
        advice: what to do, empty if nothing.
    """

    topic: str
    name: str
    state: str
    found: str
    advice: str = ""


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


def check_system() -> list[Finding]:
    """Python, torch and accelerators."""
    import torch

    findings = [
        Finding("system", "python", GOOD, f"{platform.python_version()} at {sys.executable}"),
        Finding("system", "torch", GOOD, f"{torch.__version__}, {torch.get_num_threads()} threads"),
    ]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            half = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
            found = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {half}"
            findings.append(Finding("system", f"cuda:{index}", GOOD, found))
    else:
        built = torch.version.cuda
        advice = "install the NVIDIA driver" if built else "for a GPU, install a CUDA build of torch (pytorch.org)"
        findings.append(Finding("system", "cuda", PART, "none: everything runs on the CPU", advice))
    name, state, advice = "triton", GOOD, ""
    if not importable("triton"):
        state, advice = PART, "pip install triton (Linux): faster reads on CUDA"
    findings.append(Finding("system", name, state, version("triton") or "not installed", advice))
    return findings


def check_models(weights: Path) -> list[Finding]:
    """Presets and where their weights are."""
    from mirage_ros.models.presets import PRESETS

    findings = []
    for name, preset in PRESETS.items():
        size = f"{preset.height}x{preset.width}, {preset.chunk_frames} frames a chunk"
        if name == "test":
            findings.append(Finding("presets", name, GOOD, f"{size}, random weights by design"))
        elif preset.weights:
            cached = _cached(preset.weights)
            found = f"{size}; {preset.weights} {'is in the cache' if cached else 'is not in the cache'}"
            advice = "" if cached else f"hf download {preset.weights}"
            findings.append(Finding("presets", name, GOOD if cached else PART, found, advice))
        else:
            there = (weights / "transformer" / "config.json").is_file()
            found = f"{size}; {weights} {'has the weights' if there else 'has no weights'}"
            advice = "" if there else "give --weights FOLDER, or train them"
            findings.append(Finding("presets", name, GOOD if there else BAD, found, advice))
    return findings


def check_perception() -> list[Finding]:
    """Depth estimators and filters by name."""
    import transformers

    from mirage_ros.perception.registry import DEPTHS, FILTERS

    sam = hasattr(transformers, "Sam3VideoModel")
    from mirage_ros.perception import depth_anything, entities, video_segmenter
    from mirage_ros.perception.map_anything import MapAnythingDepth
    from mirage_ros.perception.unidepth import UniDepth

    needs: dict[str, tuple[bool, str, tuple[str, ...]]] = {
        # name: (whether the code is there, what installs it, the weights it asks for)
        "depth-anything": (True, "", (depth_anything.INDOOR,)),
        "map-anything": (importable("mapanything"), MapAnythingDepth.COMMAND, (MapAnythingDepth.SOURCE,)),
        "unidepth": (importable("unidepth"), UniDepth.COMMAND, (UniDepth.SOURCE,)),
        "open-vocabulary": (sam, "pip install 'transformers>=5'", (entities.QWEN, video_segmenter.SAM3)),
    }
    findings = []
    for topic, names in (("depth", DEPTHS), ("filter", FILTERS)):
        for name, what in names.items():
            installed, command, sources = needs.get(name, (True, "", ()))
            missing = [source for source in sources if not _cached(source)]
            if not installed:
                findings.append(Finding(topic, name, PART, "its package is not installed", command))
            elif missing:
                found = f"code is there; not in the cache: {', '.join(missing)}"
                findings.append(Finding(topic, name, PART, found, f"hf download {missing[0]}, or give a folder"))
            else:
                findings.append(Finding(topic, name, GOOD, what))
    return findings


def check_drawing() -> list[Finding]:
    """OpenGL without a screen, tried by drawing one small picture in a process of its own."""
    import subprocess

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
        return [Finding("simulator", "OpenGL", BAD, "drawing did not end within 300 s", "try MUJOCO_GL=osmesa")]
    if done.returncode == 0:
        return [Finding("simulator", "OpenGL", GOOD, f"draws through {done.stdout.split()[-1]}")]
    last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit status {done.returncode}"
    advice = "apt-get install libegl1 libgl1-mesa-dri (or libosmesa6 and MUJOCO_GL=osmesa)"
    return [Finding("simulator", "OpenGL", BAD, last[:160], advice)]


def check_ros() -> list[Finding]:
    """ROS 2 and its middleware."""
    if not importable("rclpy"):
        advice = "source /opt/ros/DISTRO/setup.bash, or run make setup"
        return [Finding("ROS 2", "rclpy", BAD, "not importable by this Python", advice)]
    findings = [Finding("ROS 2", "rclpy", GOOD, version("ros-rclpy") or "of a sourced installation")]
    if importable("mirage_ros.msg"):
        findings.append(Finding("ROS 2", "mirage_ros.msg", GOOD, "the package's own messages are built"))
    else:
        advice = "run make setup (pip) or colcon build; sources alone have no messages"
        findings.append(Finding("ROS 2", "mirage_ros.msg", BAD, "the package's own messages are not built", advice))
    settings = {name: os.environ.get(name) for name in ("RMW_IMPLEMENTATION", "ROS_DOMAIN_ID", "ROS_LOCALHOST_ONLY")}
    shown = ", ".join(f"{name}={value}" for name, value in settings.items() if value) or "defaults"
    findings.append(Finding("ROS 2", "DDS", GOOD, shown))
    profile = os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE") or os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE")
    if profile and not Path(profile).is_file():
        findings.append(Finding("ROS 2", "Fast DDS profile", BAD, f"{profile} does not exist", "unset or correct it"))
    elif profile:
        findings.append(Finding("ROS 2", "Fast DDS profile", GOOD, profile))
    else:
        state = "the package's config/fastdds.xml in its own executables, Fast DDS's defaults in others"
        findings.append(Finding("ROS 2", "Fast DDS profile", GOOD, state))
    findings.append(_shared_memory())
    return findings


def check_packages() -> list[Finding]:
    """Optional packages and the extras that install them."""
    optional = {
        # module: (distribution, what for, command)
        "rerun": ("rerun-sdk", "mirage view", "pip install 'mirage_ros[viz]'"),
        "matplotlib": ("matplotlib", "figures", "pip install 'mirage_ros[viz]'"),
        "tensorboard": ("tensorboard", "training curves", "pip install 'mirage_ros[train]'"),
        "torchvision": ("torchvision", "transformers' own image processors", "pip install torchvision"),
    }
    findings = []
    for module, (package, purpose, command) in optional.items():
        found = version(package)
        if importable(module):
            findings.append(Finding("packages", package, GOOD, f"{found}, {purpose}"))
        else:
            findings.append(Finding("packages", package, PART, f"not installed: no {purpose}", command))
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    state = "offline by HF_HUB_OFFLINE" if offline else "not tried; asked where a folder or the cache has no weights"
    findings.append(Finding("packages", "model hub", GOOD, state))
    return findings


def _shared_memory() -> Finding:
    """Room for shared-memory transport, which containers often limit to 64 MiB."""
    try:
        stats = os.statvfs("/dev/shm")
    except OSError:
        return Finding("ROS 2", "/dev/shm", PART, "not there: large messages go through UDP")
    size = stats.f_frsize * stats.f_blocks / 2**20
    if size < 128:
        return Finding("ROS 2", "/dev/shm", PART, f"{size:.0f} MiB", "in a container: --shm-size=512m or --ipc=host")
    return Finding("ROS 2", "/dev/shm", GOOD, f"{size:.0f} MiB")


def _cached(repository: str) -> bool:
    """Whether the hub's local cache holds a snapshot of a repository."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
    return folder.is_dir() and any(folder.iterdir())


def checks(weights: Path) -> dict[str, Callable[[], list[Finding]]]:
    """All checks by name, in the order in which they are shown."""
    return {
        "system": check_system,
        "presets": lambda: check_models(weights),
        "perception": check_perception,
        "simulator": check_drawing,
        "ros": check_ros,
        "packages": check_packages,
    }


def examine(weights: Path) -> list[Finding]:
    """Run every check; one that fails itself becomes a finding."""
    findings = []
    for name, check in checks(weights).items():
        try:
            findings += check()
        except Exception as error:
            findings.append(Finding(name, "check", BAD, f"{type(error).__name__}: {error}"))
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
    bad = sum(finding.state == BAD for finding in findings)
    part = sum(finding.state == PART for finding in findings)
    lines.append("")
    lines.append(f"{bad} needed and not usable ({BAD}), {part} optional and not usable ({PART})")
    return "\n".join(lines)


def main() -> None:
    """Print the report; exit status 1 if something that is needed does not work."""
    parser = argparse.ArgumentParser(prog="mirage doctor", description=__doc__)
    parser.add_argument("--weights", type=Path, help="folder of the default preset's weights")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_args()
    findings = examine(options.weights or weights_directory() / "default")
    print(json.dumps([asdict(finding) for finding in findings]) if options.json else report(findings))
    sys.exit(any(finding.state == BAD for finding in findings))


if __name__ == "__main__":
    main()
