"""Which Fast DDS profile this process uses. To be called before rclpy is imported; imports nothing of ROS itself."""

from __future__ import annotations

import os

from mirage_ros.resources import share_directory

PROFILE_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
# Its name up to Fast DDS 2; later distributions warn of it.
OLD_PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
OLD_DISTRIBUTIONS = ("foxy", "galactic", "humble", "iron", "jazzy")
NETWORK_VARIABLE = "MIRAGE_ROS_NETWORK"
RMW_IMPLEMENTATIONS = ("rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp")


def default_environment() -> dict[str, str]:
    """Environment variables that keep a node's DDS on this machine, with room for images.

    They name the shipped config/fastdds.xml (shared memory and loopback only) by FASTDDS_DEFAULT_PROFILES_FILE, or by
    FASTRTPS_DEFAULT_PROFILES_FILE where ROS_DISTRO is Jazzy or older.

    Returns:
        The variables to set; none where a profile is already set by either name, with MIRAGE_ROS_NETWORK=1 (talk to
        other hosts), and with an RMW implementation other than Fast DDS.

    Raises:
        ValueError: MIRAGE_ROS_NETWORK is neither 0 nor 1.
    """
    if any(os.environ.get(name) for name in (PROFILE_VARIABLE, OLD_PROFILE_VARIABLE)):
        return {}
    network = os.environ.get(NETWORK_VARIABLE, "0")
    if network not in ("0", "1"):
        raise ValueError(f"{NETWORK_VARIABLE}: expected 0 (this machine only) or 1 (all networks), got {network!r}")
    fast_dds = os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") in RMW_IMPLEMENTATIONS
    if network == "1" or not fast_dds:
        return {}
    profile = str(share_directory() / "config" / "fastdds.xml")
    old = os.environ.get("ROS_DISTRO") in OLD_DISTRIBUTIONS
    return {OLD_PROFILE_VARIABLE if old else PROFILE_VARIABLE: profile}


def use_default_profile() -> str | None:
    """Put `default_environment` in force in this process, before rclpy is imported.

    Returns:
        The profile in force, or None where Fast DDS's own defaults (all network interfaces) hold.
    """
    os.environ.update(default_environment())
    return os.environ.get(PROFILE_VARIABLE) or os.environ.get(OLD_PROFILE_VARIABLE) or None
