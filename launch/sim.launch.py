"""A simulated robot camera: `ros2 launch mirage_ros sim.launch.py seed:=3 family:=halls`."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription
from mirage_ros.ros.dds import use_default_profile

# name: (default, type, description); each sets the parameter of the same name.
ARGUMENTS = {
    "seed": ("0", int, "integer that the scene grows from"),
    "family": ("rooms", str, "rooms or halls"),
    "moving": ("-1", int, "moving objects, 0 to 3; -1 lets the seed decide"),
    "width": ("192", int, "image width, pixels"),
    "height": ("128", int, "image height, pixels"),
    "rate": ("10.0", float, "frames per second"),
    "motion": ("path", str, "before the first command: path or hold"),
    "publish_clock": ("false", bool, "publish /clock and stamp with simulated time"),
    "reliability": ("reliable", str, "quality of service of the images: reliable or best_effort"),
    "world_frame": ("map", str, "frame that poses refer to"),
}


def generate_launch_description():
    use_default_profile()
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, _, description) in ARGUMENTS.items()
    ]
    arguments.append(DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"))
    camera = Node(
        package="mirage_ros",
        executable="sim_camera",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[
            {
                name: ParameterValue(LaunchConfiguration(name), value_type=kind)
                for name, (_, kind, _) in ARGUMENTS.items()
            }
        ],
    )
    return LaunchDescription([*arguments, camera])
