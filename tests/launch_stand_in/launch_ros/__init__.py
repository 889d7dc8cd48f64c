"""Records nodes: the part of the API of ROS's `launch_ros` that our launch files use."""
