import numpy as np
import pytest

from mirage_ros.evaluation.methods import GROUPS, METHODS, NoMemory, find_methods, observed
from mirage_ros.rgbd import RgbdFrame


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_answers_every_frame(world, case, name):
    outcome = METHODS[name][0](world, case, 0)
    assert outcome.rgb.shape == case.clip.rgb.shape
    assert outcome.rgb.dtype == np.uint8
    assert outcome.depth.shape == case.clip.depth.shape
    assert outcome.seconds >= 0


def test_what_moves_is_not_shown_to_the_memory(world, case):
    """The box of the first frame is masked, so no later frame may show it there."""
    memory = world.new_memory()
    observed(world, memory, case)
    depth = memory.read(case.clip.camera[:1].resized(*world.networks.latent_size)).depth
    assert not ((depth > 0) & (depth < 1.5)).any()


def test_without_memory_nothing_is_remembered(world, case):
    cache = NoMemory(world)
    world.observe(cache, RgbdFrame(case.clip.rgb[0], case.clip.depth[0], case.clip.camera[0]))
    assert len(cache) == 0
    assert not cache.read(case.clip.camera.resized(8, 12)).visible.any()


def test_names_are_checked_and_a_group_names_its_methods_once():
    assert list(find_methods(["mirage", "compared"])) == list(GROUPS["compared"])
    assert list(find_methods(["copy", "mirage"])) == ["copy", "mirage"]
    with pytest.raises(ValueError, match="methods: expected some of compared, recorded, mirage, .*, got 'best'$"):
        find_methods(["best"])
    with pytest.raises(ValueError, match=r"got 'shufled'; is 'shuffled' meant\?"):
        find_methods(["shufled"])
    with pytest.raises(ValueError, match="got none"):
        find_methods([])


def test_methods_are_shown_what_the_sensor_gives_and_judged_by_the_truth(world, case):
    other = case.seen_by("exposure", 1.0)
    assert (other.first.rgb != case.first.rgb).any()
    assert np.array_equal(other.clip.rgb, case.clip.rgb)
    assert np.array_equal(case.seen_by("exposure", 1.0).first.rgb, other.first.rgb)
    colours = []
    for each in (case, other):
        memory = world.new_memory()
        observed(world, memory, each)
        colours.append(memory.cloud().colours.float().mean())
    assert abs(colours[0] - colours[1]) > 5
