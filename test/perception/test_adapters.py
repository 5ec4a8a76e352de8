"""Bringing depth of other packages back to the frames' pixels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.models.network_files import MissingWeightsError
from mirage_ros.perception.packaged_depth import import_extra, load_hub_mixin, resampled
from mirage_ros.perception.pretrained import MissingExtraError, PerceptionUnavailableError


def test_depth_of_a_scaled_and_cropped_view_lands_on_its_pixels() -> None:
    camera = pinhole(64, 96, vertical_fov=1.0)
    true = 1 + torch.rand(64, 96, generator=torch.Generator().manual_seed(0))
    # Enlarged twice, then 8 pixels cut off each side of the enlarged picture.
    view = camera.resized(128, 192).cropped(8, 8, 112, 176)
    depth = true.repeat_interleave(2, 0).repeat_interleave(2, 1)[8:120, 8:184]
    found = resampled(depth, view.intrinsics, camera)
    torch.testing.assert_close(found[4:60, 4:92], true[4:60, 4:92])
    assert not found[:4].any()
    assert not found[:, 92:].any()


def test_missing_weights_of_packages_say_what_to_do(tmp_path: Path, offline: None) -> None:
    from huggingface_hub import PyTorchModelHubMixin

    class Network(torch.nn.Module, PyTorchModelHubMixin):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(size, size)

    with pytest.raises(MissingWeightsError, match="hf download nobody/nothing"):
        load_hub_mixin(Network, "nobody/nothing", "cpu")
    with pytest.raises(MissingWeightsError, match="is empty"):
        load_hub_mixin(Network, tmp_path, "cpu")
    Network(3).save_pretrained(tmp_path, config={"size": 3})
    assert load_hub_mixin(Network, tmp_path, "cpu").layer.weight.shape == (3, 3)
    (tmp_path / "config.json").write_text('{"size": 4}')
    with pytest.raises(PerceptionUnavailableError, match="do not fit Network"):
        load_hub_mixin(Network, tmp_path, "cpu")


def test_packages_that_do_not_load_are_told_from_missing_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="is installed but does not load.*torchvision::nms.*pip install it"):
        import_extra("broken_package", "map-anything", "pip install it")
