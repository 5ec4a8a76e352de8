"""The latent spatial memory: what was seen and imagined, as latent tokens in world space."""

from mirage_ros.memory.cloud import Cloud, Elements
from mirage_ros.memory.files import MemoryFileError
from mirage_ros.memory.frame_grids import FrameGrids, splat
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.memory.provenance import IMAGINATION, OBSERVATION, FrameRecord, SourceFrame
from mirage_ros.memory.read import read_elements
from mirage_ros.memory.readout import Readout
from mirage_ros.memory.write_rules import WriteReport, WriteRules
from mirage_ros.memory.zbuffer.projection import CENTRED, PUBLIC, Convention

__all__ = [
    "CENTRED",
    "IMAGINATION",
    "OBSERVATION",
    "PUBLIC",
    "Cloud",
    "Convention",
    "Elements",
    "FrameGrids",
    "FrameRecord",
    "LatentMemory",
    "MemoryFileError",
    "Readout",
    "SourceFrame",
    "WriteReport",
    "WriteRules",
    "read_elements",
    "splat",
]
