"""Paths of requests stay below their folder; what is refused ends nobody's work."""

import asyncio
import os
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mirage_ros.ros.services import Services, path_below


def test_names_get_the_suffix_and_may_have_folders(tmp_path):
    assert path_below(tmp_path, "a", ".ply") == tmp_path / "a.ply"
    assert path_below(tmp_path, "b/c.ply", ".ply") == tmp_path / "b" / "c.ply"


@pytest.mark.parametrize(
    "text", ["", "/x", "..", "../x", "a/../b", "~/x", "a\0b", "a\nb", "x" * 256, "a.pkl", ".ply", ".", "a\\b"]
)
def test_everything_else_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="path: expected"):
        path_below(tmp_path, text, ".ply")


def test_links_do_not_lead_out(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "file.ply").symlink_to(outside / "file.ply")
    for text in ("link/x", "file.ply"):
        with pytest.raises(ValueError, match="leads out"):
            path_below(inside, text, ".ply")


@given(st.text(max_size=40))
def test_whatever_is_accepted_is_inside(text):
    from pathlib import Path

    folder = Path("/nonexistent/folder")
    try:
        path = path_below(folder, text, ".ply")
    except ValueError:
        return
    assert os.path.realpath(path).startswith("/nonexistent/folder/")
    assert path.suffix == ".ply"


class TestWhatIsRefused:
    """Requests that are refused leave the work of others alone."""

    @pytest.fixture
    def services(self, tmp_path):
        given_up = []

        async def do(work, quick=False):
            return work()

        def refuse(*_):
            raise ValueError("refused")

        async def placed(work):
            return work

        services = object.__new__(Services)
        services._folder, services._do, services._give_up = tmp_path, do, lambda: given_up.append(True)
        parameters = SimpleNamespace(
            imagine=SimpleNamespace(max_distance=10.0), observation=SimpleNamespace(slop=0.0), world_frame="map"
        )
        services._context = SimpleNamespace(parameters=parameters)
        memory = SimpleNamespace(check_poses=refuse, frames=list)
        services._session = SimpleNamespace(read=refuse, memory=memory)
        active = SimpleNamespace(patience=SimpleNamespace(future=lambda work: ([torch.eye(4)], [5])))
        services._stage = SimpleNamespace(require=lambda: active)
        services._requests = SimpleNamespace(awaitable=placed)
        services.given_up = given_up
        return services

    @pytest.mark.parametrize(("frames", "message"), [([7], "refused"), ([], "expected that of an observed frame")])
    def test_a_repose_of_unknown_frames(self, services, frames, message):
        request = SimpleNamespace(poses=[None], frames=frames)
        with pytest.raises(ValueError, match=message):
            asyncio.run(services._repose(request, SimpleNamespace()))
        assert not services.given_up

    def test_a_file_that_cannot_be_read(self, services):
        with pytest.raises(ValueError, match="refused"):
            asyncio.run(services._load_memory(SimpleNamespace(path="missing"), SimpleNamespace()))
        assert not services.given_up
