"""Which Fast DDS profile this process uses. To be called before rclpy is imported; imports nothing of ROS itself."""

from __future__ import annotations

import os

from mirage_ros.resources import share_directory

PROFILE_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
NETWORK_VARIABLE = "MIRAGE_ROS_NETWORK"


def use_default_profile() -> str | None:
    """Keep DDS on this machine, with room for images, unless the environment says otherwise.

    Sets FASTDDS_DEFAULT_PROFILES_FILE to the shipped config/fastdds.xml (shared memory and loopback only). Left alone:
    a profile that is already set, MIRAGE_ROS_NETWORK=1 (talk to other hosts), and RMW implementations other than
    Fast DDS.

    Returns:
        The profile in force, or None where Fast DDS's own defaults (all network interfaces) hold.

    Raises:
        ValueError: MIRAGE_ROS_NETWORK is neither 0 nor 1.
    """
    chosen = os.environ.get(PROFILE_VARIABLE)
    if chosen:
        return chosen
    network = os.environ.get(NETWORK_VARIABLE, "0")
    if network not in ("0", "1"):
        raise ValueError(f"{NETWORK_VARIABLE}: expected 0 (this machine only) or 1 (all networks), got {network!r}")
    other_rmw = os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") not in (
        "rmw_fastrtps_cpp",
        "rmw_fastrtps_dynamic_cpp",
    )
    if network == "1" or other_rmw:
        return None
    profile = str(share_directory() / "config" / "fastdds.xml")
    os.environ[PROFILE_VARIABLE] = profile
    return profile
