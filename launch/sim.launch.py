"""A simulated robot camera: `ros2 launch mirage_ros sim.launch.py seed:=3 family:=halls`.

Every parameter of the camera is an argument of the same name; `namespace` sets the namespace. With `mirage:=true` the
node `mirage` starts beside it and learns from its images, with `rviz:=true` RViz shows both (where it is installed).
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription
from mirage_ros.resources import share_directory
from mirage_ros.ros.dds import default_environment
from mirage_ros.sim.camera_parameters import PARAMETERS


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(
            row.name,
            default_value=str(row.default).lower() if isinstance(row.default, bool) else str(row.default),
            description=row.description,
        )
        for row in PARAMETERS
    ]
    arguments += [
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of the nodes."),
        DeclareLaunchArgument("mirage", default_value="false", description="Start the node mirage too."),
        DeclareLaunchArgument("rviz", default_value="false", description="Start RViz too."),
    ]
    camera = Node(
        package="mirage_ros",
        executable="sim_camera",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        # For this node alone: what else is launched keeps the DDS settings that it has.
        additional_env=default_environment(),
        parameters=[
            {
                row.name: ParameterValue(LaunchConfiguration(row.name), value_type=type(row.default))
                for row in PARAMETERS
            }
        ],
    )
    share = share_directory()
    mirage = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch" / "mirage.launch.py")),
        launch_arguments={
            "namespace": LaunchConfiguration("namespace"),
            "camera_pose": "true_pose",
            # Where the camera makes the time, the others follow it.
            "use_sim_time": LaunchConfiguration("publish_clock"),
        }.items(),
        condition=IfCondition(LaunchConfiguration("mirage")),
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", str(share / "config" / "mirage.rviz")],
        parameters=[{"use_sim_time": ParameterValue(LaunchConfiguration("publish_clock"), value_type=bool)}],
        # The same settings as the nodes', or it would not see them.
        additional_env=default_environment(),
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription([*arguments, camera, mirage, rviz])
