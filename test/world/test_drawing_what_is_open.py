"""The generator in a rollout."""

from __future__ import annotations

import numpy as np


def test_the_generator_draws_one_of_what_may_be_there_and_leaves_what_is_known(frame_world, walk):
    scene = walk(9)
    memory, _ = scene.begin(frame_world)
    turned = scene.camera.cam2world.clone()
    turned[4:, 0, 3] += 0.8
    trajectory = scene.camera.at(turned)
    finished: list[tuple[int, int]] = []

    def imagine(seed: int, steps: int | None):
        chunks = frame_world.imagine(
            memory,
            trajectory,
            first=scene.frame(),
            seed=seed,
            steps=steps,
            remember=False,
            on_progress=lambda now: finished.append((now.step, now.steps)) if now.stage == "denoise" else None,
        )
        return next(iter(chunks))

    # One step is the mean, which needs no luck; the untrained transformer's is the filled readout.
    first, second = (imagine(seed, 1) for seed in (0, 1))
    np.testing.assert_array_equal(first.rgb[-1], second.rgb[-1])
    finished.clear()
    steps = 4
    drawn = [imagine(seed, steps) for seed in (0, 1)]
    assert finished[:steps] == [(step, steps) for step in range(1, steps + 1)]
    hidden = first.visible[-1] == 0
    assert 0.1 < hidden.mean() < 0.9
    change = np.abs(drawn[0].rgb[-1].astype(int) - drawn[1].rgb[-1]).mean(axis=-1)
    # What is visible but not sharp is drawn too, and the decoder sees cells around a pixel.
    assert change[hidden].mean() > 1.5 * change[~hidden].mean()
