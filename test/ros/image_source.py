"""The other process of the transport tests: publishes 720p images, each marked with its number, at a steady rate."""

import argparse
import time


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--reliability", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--wait", action="store_true", help="start when somebody listens")
    options = parser.parse_args()

    from mirage_ros.ros.dds import use_default_profile

    use_default_profile()
    import numpy as np
    import rclpy
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from mirage_ros.ros.conversions import numpy_to_image
    from mirage_ros.ros.topics import image_qos

    rclpy.init()
    node = rclpy.create_node("image_source")
    publisher = node.create_publisher(Image, "image", image_qos(options.reliability))
    pixels = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    while options.wait and not publisher.get_subscription_count():
        time.sleep(0.01)
    # Discovery is mutual but not simultaneous: the listener may need another moment to match this writer.
    time.sleep(0.5)
    start = time.monotonic()
    for number in range(options.count):
        publisher.publish(numpy_to_image(pixels, "rgb8", Header(frame_id=str(number))))
        time.sleep(max(0.0, start + (number + 1) / options.rate - time.monotonic()))
    # A reliable writer must live until its last message is acknowledged.
    time.sleep(2.0)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
