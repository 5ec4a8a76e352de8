"""A simulated robot camera: `ros2 launch mirage_ros sim.launch.py seed:=3 family:=halls`.

Every parameter of the camera is an argument of the same name; `namespace` sets the namespace. With `mirage:=true` the
node `mirage` starts beside it and learns from its images, with `rviz:=true` RViz shows both (where it is installed).
"""

from ament_index_python.packages import get_package_prefix
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, LogInfo, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription
from mirage_ros.resources import share_directory
from mirage_ros.ros.dds import default_environment
from mirage_ros.ros.parameter_rows import Parameter
from mirage_ros.sim.camera_parameters import PARAMETERS

SWITCHES = (
    Parameter("mirage", False, "Start the node mirage too."),
    Parameter("rviz", False, "Start RViz too, where it is installed."),
)


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(
            row.name,
            default_value=str(row.default).lower() if isinstance(row.default, bool) else str(row.default),
            description=row.description,
        )
        for row in (*PARAMETERS, *SWITCHES)
    ]
    arguments.append(DeclareLaunchArgument("namespace", default_value="", description="Namespace of the nodes."))
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context):
    """The camera, and what else was asked for."""
    given = {row.name: row.parsed(LaunchConfiguration(row.name).perform(context)) for row in (*PARAMETERS, *SWITCHES)}
    namespace, share = LaunchConfiguration("namespace").perform(context), share_directory()
    actions = [
        Node(
            package="mirage_ros",
            executable="sim_camera",
            namespace=namespace,
            output="screen",
            # For this node alone: what else is launched keeps the DDS settings that it has.
            additional_env=default_environment(),
            parameters=[{row.name: given[row.name] for row in PARAMETERS}],
        )
    ]
    if given["mirage"]:
        actions.append(
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(share / "launch" / "mirage.launch.py")),
                launch_arguments={
                    "namespace": namespace,
                    "camera_pose": "true_pose",
                    # Where the camera makes the time, the others follow it.
                    "use_sim_time": str(given["publish_clock"]),
                }.items(),
            )
        )
    if given["rviz"]:
        actions.append(rviz(namespace, given["publish_clock"]))
    return actions


def rviz(namespace, sim_time):
    """RViz; words instead, and all else goes on, where it is not installed."""
    try:
        get_package_prefix("rviz2")
    except LookupError:
        return LogInfo(msg="rviz:=true, but rviz2 is not installed; the other nodes go on without it")
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=namespace,
        arguments=["-d", str(share_directory() / "config" / "mirage.rviz")],
        parameters=[{"use_sim_time": sim_time}],
        # The same settings as the nodes', or it would not see them.
        additional_env=default_environment(),
    )
