import numpy as np
import pytest

from mirage_ros.evaluation.methods import GREY, GROUPS, METHODS, NoMemory, find_methods, moved_pixels, observed
from mirage_ros.evaluation.metrics import masked_psnr
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


def test_true_depth_brings_true_pixels_over(case):
    frames, later = moved_pixels(case), slice(1, None)
    assert np.array_equal(frames[0], case.clip.rgb[0])
    assert (frames[later][~case.visible[later]] == GREY).all()
    assert case.visible[later].any()
    copied = np.repeat(case.clip.rgb[:1], len(case.clip), axis=0)
    brought, stayed = (masked_psnr(rgb[later], case.clip.rgb[later], case.visible[later]) for rgb in (frames, copied))
    assert brought > stayed + 6


def test_a_gain_of_the_camera_is_fitted_channel_by_channel(case):
    darker = (case.clip.rgb * np.array([0.5, 0.7, 0.6])).astype(np.uint8)
    darker[0] = case.clip.rgb[0]
    object.__setattr__(case.clip, "rgb", darker)
    plain, fitted = (
        masked_psnr(moved_pixels(case, fit_gain=fit)[1:], darker[1:], case.visible[1:]) for fit in (False, True)
    )
    assert fitted > plain + 6
