"""Robots of a fleet market as ROS 2 nodes: the only package that imports rclpy."""
