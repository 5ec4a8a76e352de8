"""Fixtures: a private ROS graph for each test, and processes that end with it."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import cv2
import hypothesis
import numpy as np
import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.recordings.clips import MOVING, SKY, STATIC, Clip

# Examples follow from the tests alone, so that a run on one machine means the same as on another.
hypothesis.settings.register_profile("project", deadline=None, derandomize=True)
hypothesis.settings.load_profile("project")
# Two threads, whatever the machine has: results then do not depend on it. Workers of pytest-xdist have one each, and so
# have the processes that they start.
if os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
else:
    torch.set_num_threads(2)

# Above 101 the ports of a domain lie among those that Linux hands out; those below 10 are what people use by hand.
DOMAINS = range(10, 102)
# Who asks for one of these talks over DDS.
GRAPHS = {"domain_id", "graph"}


def pytest_configure(config: pytest.Config) -> None:
    """Let the ROS wheels restart Python now: once output is captured, the restarted process would have none."""
    if importlib.util.find_spec("ros_wheels_bootstrapper") and not os.environ.get("_ROS_WHEELS_BOOTSTRAP_COMPLETE"):
        config.pluginmanager.getplugin("capturemanager").stop_global_capturing()
        import ros_wheels_bootstrapper  # noqa: F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is known from a test's place and fixtures, and tell workers of pytest-xdist in which order to go."""
    here = Path(__file__).parent
    for item in items:
        if GRAPHS & set(getattr(item, "fixturenames", ())):
            item.add_marker("ros")
        if item.path.is_relative_to(here / "sim"):
            item.add_marker("sim")
        if item.path == here / "test_install.py":
            item.add_marker("install")
    if os.environ.get("PYTEST_XDIST_WORKER"):
        items.sort(key=places(items).__getitem__)


def places(items: list[pytest.Item]) -> dict[pytest.Item, float]:
    """Where each test's module stands between 0 and 1.

    Modules with slow tests come first, so that none is left over when all else is done. Modules that wait for nodes are
    spread among those that compute, so that the workers seldom do the same.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    waiting = {item.path for item in items if item.get_closest_marker("ros")}
    modules = sorted(dict.fromkeys(item.path for item in items), key=lambda path: -slow[path])
    kinds = [[path for path in modules if (path in waiting) == kind] for kind in (True, False)]
    place = {path: index / len(kind) for kind in kinds for index, path in enumerate(kind)}
    return {item: place[item.path] for item in items}


@pytest.fixture
def domain_id() -> Iterator[int]:
    """A DDS domain that no other test uses now, whichever process runs it.

    The claim is an abstract socket: it reaches exactly as far as DDS does (the network namespace, not the file system),
    and ends with the process that holds it.
    """
    for domain in DOMAINS:
        with socket.socket(socket.AF_UNIX) as claim:
            try:
                claim.bind(f"\0mirage_ros_test_domain_{domain}")
            except OSError:
                continue
            yield domain
            return
    raise RuntimeError("every DDS domain is taken by a running test")


@pytest.fixture(scope="session")
def run_apart() -> Callable[..., list[str]]:
    """A function that runs Python in two numbered processes, which share nothing but what their arguments name.

    Gives what each printed.
    """

    def run(*arguments: str, timeout: float = 300) -> list[str]:
        processes = [
            Popen(
                [sys.executable, *arguments],
                # The sources' own folder would hide the installed package.
                cwd="/",
                env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
                stdout=PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        try:
            printed = [process.communicate(timeout=timeout)[0] for process in processes]
            assert [process.returncode for process in processes] == [0, 0]
            return printed
        finally:
            for process in processes:
                process.kill()

    return run


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_HUB_OFFLINE=1 does: the hub is not asked."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


WORDS = ["<pad>", "</s>", "<unk>", "▁a", "▁red", "▁room", "▁chair", "▁and"]


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """text_encoder/ and tokenizer/ as in a diffusers repository: a minute UMT5 with random weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    folder = tmp_path_factory.mktemp("model")
    pieces = Tokenizer(models.Unigram([(word, -float(index)) for index, word in enumerate(WORDS)], unk_id=2))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces.decoder = decoders.Metaspace()
    pieces.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    tokenizer.save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    configuration = UMT5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, tie_word_embeddings=False
    )
    UMT5EncoderModel(configuration).save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture(scope="session")
def depth_anything_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes a folder with a Depth Anything checkpoint of a kind, 'relative' or 'metric'."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    def make(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        backbone = Dinov2Config(
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            mlp_ratio=2,
            image_size=70,
            patch_size=14,
            out_features=["stage1", "stage2", "stage3", "stage4"],
            apply_layernorm=True,
            reshape_hidden_states=False,
        )
        config = DepthAnythingConfig(
            backbone_config=backbone,
            reassemble_hidden_size=16,
            neck_hidden_sizes=[8, 8, 16, 16],
            fusion_hidden_size=8,
            head_hidden_size=8,
            depth_estimation_type=kind,
            max_depth=20 if kind == "metric" else 1,
        )
        torch.manual_seed(0)
        DepthAnythingForDepthEstimation(config).save_pretrained(folder)
        settings = {"size": {"height": 70, "width": 70}, "ensure_multiple_of": 14, "image_mean": [0.5] * 3}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
        return folder

    return make


class Ros:
    """One test's ROS graph: nodes here, executables of the package as processes, a log folder."""

    def __init__(self, domain: int, logs: Path, stack: ExitStack) -> None:
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor

        self.environment = {"ROS_DOMAIN_ID": str(domain), "ROS_LOG_DIR": str(logs)}
        self.logs = logs
        self.context = Context()
        self.context.init(domain_id=domain)
        self.executor = SingleThreadedExecutor(context=self.context)
        self._stack = stack
        stack.callback(self.context.try_shutdown)
        stack.callback(self.executor.shutdown)

    def node(self, name: str, **arguments):
        """A node that spins in this graph's executor."""
        import rclpy

        node = rclpy.create_node(name, context=self.context, **arguments)
        self.executor.add_node(node)
        self._stack.callback(node.destroy_node)
        return node

    def start(self, executable: str, parameters: Mapping[str, object] | None = None, *arguments: str) -> Popen[bytes]:
        """An executable of the package as a process, ended with the test."""
        from mirage_ros.ros.executable import parameter_arguments, running

        command = parameter_arguments(parameters or {}) + list(arguments)
        log = self.logs / f"{executable}.log"
        return self._stack.enter_context(running(executable, command, self.environment, log))

    def start_script(self, path: Path, *arguments: str) -> Popen[bytes]:
        """A Python script as a process, ended with the test."""
        from mirage_ros.ros.executable import running_command

        command = [sys.executable, str(path), *arguments]
        log = self.logs / f"{path.stem}.log"
        return self._stack.enter_context(running_command(command, self.environment, log))

    def spin_until(self, condition: Callable[[], object], timeout: float = 30.0) -> None:
        """Spin until the condition holds; fail with the logs of the started processes otherwise."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in self.logs.glob("*.log"))
                pytest.fail(f"condition not met within {timeout:g} s\n{logs}")
            self.executor.spin_once(timeout_sec=0.05)


@pytest.fixture
def ros(domain_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ros]:
    """A private ROS graph under the shipped DDS profile."""
    from mirage_ros.ros.dds import use_default_profile

    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path))
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain_id))
    use_default_profile()
    with ExitStack() as stack:
        yield Ros(domain_id, tmp_path, stack)


def wall_clip(name: str = "wall-0", frames: int = 6, seed: int = 0, step: float = 0.1, moving: bool = True) -> Clip:
    """A clip of 32x48 pixels with exact geometry: a camera slides along a wall at 2 m, painted with smooth functions of
    the place on it, before which a ball moves; the top rows are sky.
    """
    rng = np.random.default_rng(seed)
    waves = rng.uniform(1, 5, (3, 4))
    poses = torch.eye(4).repeat(frames, 1, 1)
    poses[:, 0, 3] = step * torch.arange(frames)
    camera = pinhole(32, 48, vertical_fov=1.0, cam2world=poses)
    depth = np.full((frames, 32, 48), 2.0, np.float32)
    points = camera.lift(torch.from_numpy(depth)).numpy()
    x, y = points[..., 0], points[..., 1]
    colours = np.stack([np.sin(a * x + b) * np.cos(c * y + d) for a, b, c, d in waves], axis=-1)
    rgb = (127 + 100 * colours).astype(np.uint8)
    labels = np.full(depth.shape, STATIC, np.uint8)
    if moving:
        for index in range(frames):
            rows, columns = slice(12, 20), slice(8 + 4 * index, 16 + 4 * index)
            rgb[index, rows, columns], depth[index, rows, columns] = (250, 20, 20), 1.0
            labels[index, rows, columns] = MOVING
        rgb[:, :4], depth[:, :4], labels[:, :4] = (90, 150, 250), 0.0, SKY
    return Clip(name=name, rgb=rgb, depth=depth, labels=labels, camera=camera, fps=10.0)


@pytest.fixture
def new_clip() -> Callable[..., Clip]:
    """The function that draws a clip."""
    return wall_clip


@pytest.fixture
def turned_jpeg() -> tuple[bytes, np.ndarray]:
    """A JPEG whose EXIF asks for a quarter turn, as phones write it, and its (48, 64, 3) rgb pixels as stored."""
    shades = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None].repeat(48, 0).repeat(3, 2)
    shades[:24, :, 0] = 0
    plain = cv2.imencode(".jpg", shades)[1].tobytes()
    # TIFF header, one entry: orientation (0x0112), a short, 6.
    entry = struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + entry
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    turned = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert turned.shape == (64, 48, 3)
    return data, np.ascontiguousarray(cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
