"""Weights of a hub that does not answer, or does."""

import socket
import threading

import pytest
from diffusers import AutoencoderKL

from mirage_ros.models.network_files import MissingWeightsError, load_part
from mirage_ros.models.text import TextEncoder


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
