"""A simulated robot camera: `ros2 launch mirage_ros sim.launch.py seed:=3 family:=halls`.

Every parameter of the node is an argument of the same name; `namespace` sets the node's namespace.
"""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription
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
    arguments.append(DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."))
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
    return LaunchDescription([*arguments, camera])
