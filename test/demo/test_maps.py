"""What the demo's page says of ways."""

import math

import numpy as np
import torch

from mirage_ros.client import Grid, ViewScore
from mirage_ros.demo.maps import Prospect, score_table


def test_a_way_that_leaves_the_map_has_no_numbers():
    grid = Grid(np.zeros((2, 2), np.int8), 0.05, np.zeros(2))
    near, far = ViewScore(0.5, 1.25, 1.0, 2.0, 0.1), ViewScore(0.5, *[math.nan] * 4)
    page = score_table(Prospect(grid, grid, (("ahead", torch.eye(4)[None], near, far),)))
    known, unknown = page.split("<tr>")[2:]
    assert "<td>1.25 m²</td><td>1.00 bit m²</td><td>2.00 m</td><td>10%</td>" in known
    assert unknown.count("<td>off the map</td>") == 4
    assert "nan" not in page
