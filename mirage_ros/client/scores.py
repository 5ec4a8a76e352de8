"""Asking the node what views are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from torch import Tensor

from mirage_ros.client.arguments import flag, one_of, real, whole
from mirage_ros.client.link import Link
from mirage_ros.occupancy.prospects import ViewScore
from mirage_ros.ros.conversions import numpy_to_image, poses_to_path
from mirage_ros.ros.parameters import POSES_OF


def ask_scores(
    link: Link,
    timeout: float,
    paths: Sequence[Tensor | NDArray[np.floating]],
    header: Header,
    pose_of: str,
    goal: NDArray[np.uint8] | None,
    imagine: bool,
    seed: int,
    radius: float,
) -> list[ViewScore]:
    """The scores of (T, 4, 4) paths in the frame of a header; the rest as `Mirage.score_views` has it.

    Raises:
        ValueError: poses are of nothing that there is, or another argument is no such thing; names it.
    """
    answer = link.ask(
        "score_views",
        timeout,
        paths=[poses_to_path(torch.as_tensor(poses).double().reshape(-1, 4, 4), header) for poses in paths],
        pose_of=one_of("pose_of", pose_of, POSES_OF),
        goal=Image() if goal is None else numpy_to_image(goal, "rgb8", header),
        imagine=flag("imagine", imagine),
        seed=whole("seed", seed, -(2**63), 2**63 - 1),
        radius=real("radius", radius),
    )
    names = [field.name for field in fields(ViewScore)]
    return [ViewScore(**{name: getattr(score, name) for name in names}) for score in answer.scores]
