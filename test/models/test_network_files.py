"""Weights of a hub that does not answer, or does."""

import socket
import threading

import pytest
from diffusers import AutoencoderKL

from mirage_ros.models.network_files import MissingWeightsError, load_part
from mirage_ros.models.schedule import FEW_STEPS, ScheduleConfig
from mirage_ros.models.text import TextEncoder
from mirage_ros.world.doubt import DepthDoubt


@pytest.fixture
def hub(monkeypatch):
    """The connections that came to a hub which hangs up on all of them, as a broken network does."""
    came, server = [], socket.create_server(("127.0.0.1", 0))

    def hang_up():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            came.append(connection)
            connection.close()

    threading.Thread(target=hang_up, daemon=True).start()
    monkeypatch.setattr("mirage_ros.models.network_files._answered", {})
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield came
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.mark.parametrize(
    "load", [lambda name: load_part(AutoencoderKL, name, "vae"), TextEncoder.from_pretrained], ids=["part", "text"]
)
def test_a_hub_that_does_not_answer_is_not_asked_again_and_again(hub, load):
    """Hugging Face's libraries would, for a minute."""
    with pytest.raises(MissingWeightsError, match=r"nobody/nothing.* the hub could not be reached.*hf download"):
        load("nobody/nothing")
    assert len(hub) <= 2


def test_all_parts_of_a_model_wait_for_the_hub_together(hub):
    with pytest.raises(MissingWeightsError):
        load_part(AutoencoderKL, "nobody/nothing", "vae")
    asked = len(hub)
    for subfolder in ("reader", "vae"):
        with pytest.raises(MissingWeightsError):
            load_part(AutoencoderKL, "nobody/nothing", subfolder)
    assert 0 < len(hub) == asked


def test_a_hub_repository_says_what_its_weights_were_distilled_for_and_how_sure_they_are(
    tmp_path, monkeypatch, offline
):
    # As huggingface_hub keeps what it has downloaded.
    home, revision = tmp_path / "models--a--b", 40 * "0"
    (home / "snapshots" / revision).mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert ScheduleConfig.load("a/b") is None
    assert DepthDoubt.load("a/b") == DepthDoubt()
    FEW_STEPS.save(home / "snapshots" / revision)
    DepthDoubt(0.02, 0.3).save(home / "snapshots" / revision)
    assert ScheduleConfig.load("a/b") == FEW_STEPS
    assert DepthDoubt.load("a/b") == DepthDoubt(0.02, 0.3)
