"""The node `mirage`: `ros2 launch mirage_ros mirage.launch.py preset:=default image:=/camera/color/image_raw ...`.

Every parameter of the node is an argument of the same name; so are `namespace`, `params_file` (a YAML file such as
config/default.yaml), `use_sim_time`, and the topics that a robot names differently.
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

from launch import LaunchDescription
from mirage_ros.resources import share_directory
from mirage_ros.ros.dds import default_environment
from mirage_ros.ros.parameter_rows import Parameter
from mirage_ros.ros.parameters import PARAMETERS

# Topics that robots name differently, with the names that the node gives them.
REMAPPED = ("image", "camera_info", "depth", "depth/camera_info", "camera_pose", "pose", "path")
# Of an argument that was not given: what the file or the node itself says holds.
UNSET = "__unset__"
USE_SIM_TIME = Parameter("use_sim_time", False, "Follow /clock.")


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(
            row.name,
            default_value=UNSET,
            description=f"{row.description} {row.expectation()}, default {row.default!r}.",
        )
        for row in PARAMETERS
    ]
    arguments += [DeclareLaunchArgument(name, default_value=name, description=f"Topic {name}.") for name in REMAPPED]
    arguments += [
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
        DeclareLaunchArgument(
            USE_SIM_TIME.name, default_value=str(USE_SIM_TIME.default), description=USE_SIM_TIME.description
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=str(share_directory() / "config" / "default.yaml"),
            description="YAML file with parameters; arguments of the launch file come before it.",
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start_node)])


def start_node(context):
    """The node with the file's parameters and those that were given on the command line."""

    def given(name):
        return LaunchConfiguration(name).perform(context)

    file = Path(given("params_file")).expanduser()
    if not file.is_file():
        raise ValueError(f"argument params_file: expected a YAML file, got {str(file)!r}, which is none")
    chosen = {row.name: row.parsed(given(row.name)) for row in PARAMETERS if given(row.name) != UNSET}
    chosen["use_sim_time"] = USE_SIM_TIME.parsed(given("use_sim_time"))
    node = LifecycleNode(
        package="mirage_ros",
        executable="mirage",
        name="mirage",
        namespace=given("namespace"),
        output="screen",
        # For this node alone: what else is launched keeps the DDS settings that it has.
        additional_env=default_environment(),
        parameters=[str(file), chosen],
        remappings=[(name, given(name)) for name in REMAPPED if given(name) != name],
    )
    return [node]
