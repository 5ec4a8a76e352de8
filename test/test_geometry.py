"""Cameras and poses: what lifting, projecting, resizing and the axis conventions promise."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mirage_ros.geometry import Camera, intrinsics_from_ros, intrinsics_to_ros, pinhole, same_view
from mirage_ros.poses import (
    body_to_optical,
    invert,
    optical_to_body,
    pose_from_quaternion,
    quaternion_from_pose,
    transform,
)

BATCHES = [(), (2,), (1, 2)]


@st.composite
def poses(draw, batch=()):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    pose = torch.eye(4, dtype=torch.float64).repeat(*batch, 1, 1)
    quaternion = torch.randn(*batch, 4, generator=generator, dtype=torch.float64)
    translation = torch.randn(*batch, 3, generator=generator, dtype=torch.float64) * 10
    pose = pose_from_quaternion(translation, quaternion)
    return pose


@st.composite
def cameras(draw, batches=BATCHES):
    batch = draw(st.sampled_from(batches))
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    fx, fy = draw(st.floats(5, 100)), draw(st.floats(5, 100))
    cx, cy, skew = draw(st.floats(-5, 25)), draw(st.floats(-5, 25)), draw(st.floats(-1, 1))
    intrinsics = torch.tensor([[fx, skew, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)
    return Camera(intrinsics, draw(poses(batch)), height, width)


def random_depth(camera, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (*camera.batch_shape, camera.height, camera.width)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 50 + 0.01


@given(cameras())
def test_lift_then_project_is_the_identity(camera):
    depth = random_depth(camera)
    pixels, projected = camera.project(camera.lift(depth).flatten(-3, -2))
    torch.testing.assert_close(projected, depth.flatten(-2), rtol=1e-9, atol=1e-9)
    expected = camera.pixel_centres().flatten(0, 1).expand_as(pixels)
    torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-6)


@given(cameras(), st.integers(1, 40), st.integers(1, 40))
def test_resizing_commutes_with_projecting(camera, height, width):
    points = camera.lift(random_depth(camera)).flatten(-3, -2)
    pixels, depth = camera.project(points)
    resized_pixels, resized_depth = camera.resized(height, width).project(points)
    scale = pixels.new_tensor([width / camera.width, height / camera.height])
    torch.testing.assert_close(resized_pixels, pixels * scale, rtol=1e-9, atol=1e-9)
    assert torch.equal(resized_depth, depth)


@given(cameras(), st.integers(-5, 5), st.integers(-5, 5))
def test_cropping_shifts_pixels(camera, top, left):
    points = camera.lift(random_depth(camera)).flatten(-3, -2)
    pixels, _ = camera.project(points)
    cropped, _ = camera.cropped(top, left, 3, 4).project(points)
    torch.testing.assert_close(cropped, pixels - pixels.new_tensor([left, top]), rtol=0, atol=1e-9)


def test_pixel_centres_are_half_a_pixel_in():
    camera = pinhole(4, 6, focal=10.0)
    assert camera.pixel_centres()[0, 0].tolist() == [0.5, 0.5]
    assert camera.pixel_centres()[3, 5].tolist() == [5.5, 3.5]
    pixels, _ = camera.project(torch.tensor([[0.0, 0.0, 2.0]]))
    assert pixels.tolist() == [[3.0, 2.0]]


@given(cameras())
def test_rays_reach_what_lift_finds(camera):
    depth = random_depth(camera)
    origin = camera.cam2world[..., None, None, :3, 3]
    torch.testing.assert_close(origin + camera.rays() * depth.unsqueeze(-1), camera.lift(depth))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_invalid_depth_lifts_to_nan_and_spares_its_neighbours(bad):
    camera = pinhole(2, 2, vertical_fov=1.0)
    depth = torch.tensor([[1.0, bad], [1.0, 1.0]])
    points = camera.lift(depth)
    assert points[0, 1].isnan().all()
    assert points[torch.tensor([[True, False], [True, True]])].isfinite().all()


def test_points_behind_the_camera_have_no_pixel():
    pixels, depth = pinhole(4, 4, focal=4.0).project(torch.tensor([[0.0, 0, -1], [0, 0, 0], [0, 0, 1]]))
    assert depth.tolist() == [-1, 0, 1]
    assert pixels[:2].isnan().all()
    assert pixels[2].tolist() == [2, 2]


@given(poses((3,)), poses((3,)))
def test_inverse_and_composition(a, b):
    identity = torch.eye(4, dtype=torch.float64).expand(3, 4, 4)
    torch.testing.assert_close(a @ invert(a), identity, rtol=0, atol=1e-9)
    torch.testing.assert_close(invert(a @ b), invert(b) @ invert(a), rtol=0, atol=1e-9)
    points = torch.ones(3, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(transform(a @ b, points), transform(a, transform(b, points)))


def test_axes_follow_rep_103():
    # A camera body at the origin that faces world x (forward), with world z up.
    optical = body_to_optical(torch.eye(4))
    right, down, forward = optical[:3, 0], optical[:3, 1], optical[:3, 2]
    assert right.tolist() == [0, -1, 0]
    assert down.tolist() == [0, 0, -1]
    assert forward.tolist() == [1, 0, 0]
    # REP-103 gives the optical frame as fixed-axis roll -90, yaw -90 degrees of the body frame.
    rep_103 = Rotation.from_euler("xyz", [-90, 0, -90], degrees=True).as_matrix()
    torch.testing.assert_close(optical[:3, :3].double(), torch.from_numpy(rep_103))


@given(poses((2,)))
def test_axis_conversions_undo_each_other(pose):
    torch.testing.assert_close(optical_to_body(body_to_optical(pose)), pose)
    assert torch.equal(body_to_optical(pose)[..., :3, 3], pose[..., :3, 3])


@given(cameras())
def test_ros_intrinsics_put_pixel_centres_at_integers(camera):
    ros = intrinsics_to_ros(camera.intrinsics)
    torch.testing.assert_close(ros[:2, 2], camera.intrinsics[:2, 2] - 0.5)
    torch.testing.assert_close(intrinsics_from_ros(ros), camera.intrinsics)
    # The ray through the first pixel's centre is (0, 0) there and (0.5, 0.5) here.
    here = torch.linalg.inv(camera.intrinsics) @ camera.intrinsics.new_tensor([0.5, 0.5, 1])
    there = torch.linalg.inv(ros) @ ros.new_tensor([0, 0, 1])
    torch.testing.assert_close(here, there)


@given(poses((4,)))
def test_quaternions_round_trip(pose):
    quaternion = quaternion_from_pose(pose)
    torch.testing.assert_close(quaternion.norm(dim=-1), torch.ones(4, dtype=torch.float64))
    assert (quaternion[:, 3] >= 0).all()
    torch.testing.assert_close(pose_from_quaternion(pose[:, :3, 3], -3 * quaternion), pose)


def test_a_batch_is_indexed_like_a_list():
    camera = pinhole(4, 4, focal=4.0).at(torch.eye(4).repeat(3, 1, 1))
    assert len(camera) == 3
    assert camera[1].batch_shape == ()
    assert camera[1:].batch_shape == (2,)
    assert [single.batch_shape for single in camera] == [()] * 3
    with pytest.raises(IndexError):
        camera[0][0]
    with pytest.raises(TypeError):
        len(camera[0])


EYE3, EYE4 = torch.eye(3), torch.eye(4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3, 3), EYE4, 4, 4), "intrinsics: expected positive focal"),
        ((torch.full((3, 3), math.nan), EYE4, 4, 4), "intrinsics: expected finite"),
        ((torch.eye(4), EYE4, 4, 4), r"intrinsics: expected .*\(4, 4\)"),
        ((torch.eye(3, dtype=torch.int64), EYE4, 4, 4), "intrinsics: expected a floating"),
        ((EYE3 + torch.eye(3).flip(0), EYE4, 4, 4), "intrinsics: expected \\[\\[fx"),
        ((EYE3, torch.zeros(4, 4), 4, 4), "cam2world: expected a last row"),
        ((EYE3, torch.diag(torch.tensor([2.0, 1, 1, 1])), 4, 4), "cam2world: expected a rotation"),
        ((EYE3, torch.diag(torch.tensor([-1.0, 1, 1, 1])), 4, 4), "cam2world: expected a rotation"),
        ((EYE3, torch.full((4, 4), math.inf), 4, 4), "cam2world: expected finite"),
        ((EYE3, EYE4, 0, 4), "height: expected a positive"),
        ((EYE3, EYE4, 4, 2.5), "width: expected a positive"),
        ((EYE3.repeat(2, 1, 1), EYE4.repeat(3, 1, 1), 4, 4), "cam2world: batch"),
    ],
)
def test_unusable_cameras_are_refused_by_field(arguments, message):
    with pytest.raises(ValueError, match=message):
        Camera(*arguments)


def test_other_bad_input_is_refused_by_field():
    camera = pinhole(4, 4, focal=4.0)
    with pytest.raises(ValueError, match="depth: expected"):
        camera.lift(torch.ones(3, 4))
    with pytest.raises(ValueError, match="height: expected"):
        camera.resized(0, 4)
    with pytest.raises(ValueError, match="vertical_fov"):
        pinhole(4, 4, vertical_fov=4.0)
    with pytest.raises(ValueError, match="vertical_fov and focal"):
        pinhole(4, 4)
    with pytest.raises(ValueError, match="quaternion: expected unit length"):
        pose_from_quaternion(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match="translation: expected finite"):
        pose_from_quaternion(torch.full((3,), math.nan), torch.ones(4))


def test_the_same_view_is_told_from_one_a_step_away_or_of_other_pixels():
    camera = pinhole(32, 48, focal=40.0, cam2world=torch.eye(4, dtype=torch.float64))
    moved, grown = camera.cam2world.clone(), camera.intrinsics.clone()
    for slack, same in ((5e-4, True), (2e-3, False)):
        moved[0, 3] = slack
        assert same_view(camera, camera.at(moved)) == same
    for slack, same in ((5e-3, True), (2e-2, False)):
        grown[0, 0] = 40 + slack
        assert same_view(camera, Camera(grown, camera.cam2world, 32, 48).to(dtype=torch.float64)) == same
    assert not same_view(camera, camera.resized(16, 24))
    assert len(Camera.stacked([camera, camera.at(moved)])) == 2
