"""ament_python package; also installs with plain pip."""

from setuptools import setup

NAME = "fleet_market_ros"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    package_data={NAME: ["*.xml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ],
    install_requires=["fleet-market"],
    zip_safe=False,
    description="Robots of a fleet market as ROS 2 nodes, and the simulated floor that they drive on",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "composed = fleet_market_ros.composed:main",
            "market_gateway = fleet_market_ros.market_gateway:main",
            "oracle_view = fleet_market_ros.oracle_view:main",
            "recorder = fleet_market_ros.recorder:main",
            "robot_agent = fleet_market_ros.robot_agent:main",
            "simulator = fleet_market_ros.simulator:main",
        ]
    },
)
