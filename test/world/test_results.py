import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirage_ros.world.results import plan_chunks


def test_the_full_size_plan_is_that_of_the_public_code():
    spans = plan_chunks(97, 33, 4)
    assert [(span.start, span.stop) for span in spans] == [(0, 33), (32, 65), (64, 97)]


def test_the_last_chunk_may_be_shorter():
    assert [len(span) for span in plan_chunks(41, 33, 4)] == [33, 9]


@settings(deadline=None, derandomize=True, max_examples=100)
@given(units=st.integers(0, 60), chunk=st.integers(1, 9), stride=st.sampled_from([1, 4]))
def test_every_frame_is_new_in_exactly_one_chunk(units, chunk, stride):
    frames, chunk_frames = units * stride + 1, chunk * stride + 1
    spans = plan_chunks(frames, chunk_frames, stride)
    new = [frame for span in spans for frame in range(span.start + span.overlap, span.stop)]
    assert new == list(range(frames))
    assert all((len(span) - 1) % stride == 0 and len(span) <= chunk_frames for span in spans)


@pytest.mark.parametrize("frames", [0, 2, 3, 4, 6])
def test_lengths_that_no_video_autoencoder_has_are_refused_with_near_ones(frames):
    with pytest.raises(ValueError, match=r"trajectory: expected 4N\+1 frames such as"):
        plan_chunks(frames, 9, 4)


def test_a_chunk_with_keyframes_imagines_its_ends_and_reads_between():
    spans = plan_chunks(20, 9, keyframe_stride=8)
    assert [span.places for span in spans] == [(0, 8), (8, 16), (16, 19)]
    assert [span.imagined for span in spans] == [(0, 8), (16,), (19,)]
    assert [span.between for span in spans] == [tuple(range(1, 8)), tuple(range(9, 16)), (17, 18)]
    denser = spans[1].with_keyframe(12)
    assert (denser.places, denser.imagined) == ((8, 12), (12,))
    assert plan_chunks(1, 9, keyframe_stride=8)[0].places == (0,)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(frames=st.integers(1, 60), stride=st.integers(2, 9))
def test_with_keyframes_every_frame_is_imagined_or_read_exactly_once(frames, stride):
    spans = plan_chunks(frames, 9, keyframe_stride=stride)
    assert sorted(frame for span in spans for frame in (*span.imagined, *span.between)) == list(range(frames))


def test_keyframes_need_latents_of_single_frames():
    with pytest.raises(ValueError, match="keyframe_stride: expected 1 with a time stride of 4, got 8"):
        plan_chunks(33, 33, 4, keyframe_stride=8)
