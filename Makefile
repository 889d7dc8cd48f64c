# Every target sets up what it needs. PYTHON may name another interpreter of 3.11 or newer.
PYTHON ?= python3
VENV := .venv
comma := ,
BIN := $(VENV)/bin

# Where a ROS is sourced the environment sees its packages, and has no wheels of ROS beside them.
ROS_SOURCED := $(findstring /opt/ros/,$(AMENT_PREFIX_PATH))

# Tests start hundreds of processes: without their bytecode kept, each of them compiles the product anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup ros demo test check bench nightly clean mosquitto postgres vda5050-peer

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml ros2_ws/src/fleet_market_ros/setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(if $(ROS_SOURCED),--system-site-packages) $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev,sim$(if $(ROS_SOURCED),,$(comma)ros-kilted)]' --editable ros2_ws/src/fleet_market_ros
	touch $@

mosquitto: setup
	$(BIN)/fleet-market mosquitto

# The ROS 2 workspace: with colcon against the ROS that is sourced, else as a wheel of the interfaces in the environment.
ros: setup
	$(BIN)/python ros2_ws/build.py

# The second store's server: where there is none, from apt. Tests start a cluster of their own on loopback.
postgres: setup
	$(BIN)/python -m fleet_market.testing.postgres

# VDA 5050 software of others, which the bridge is tried on; Node.js and npm come from apt where there are none.
vda5050-peer: setup
	$(BIN)/python -m fleet_market_hardware.vda5050.peer

# The main job: a fleet of six ROS 2 robots trades and drives in PyBullet for about two minutes; results in out/demo.
demo: mosquitto
	$(BIN)/python ros2_ws/build.py --optional
	$(BIN)/fleet-market demo

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Everything in full, into out/bench and docs/benchmarks.md; FLEET_MARKET_DATA names the folder of foreign data.
bench: mosquitto postgres
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks.page

# The long forms of the crash and network tests, an hour each at most; started again after a stop it goes on.
# What the tests try at random is the same each time; here it is new. With QEMU, CAN and I2C on real kernel paths as well.
nightly: mosquitto postgres
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not real" --hypothesis-profile=new_examples
	$(BIN)/python -m benchmarks.nightly

# What starts no processes runs on all cores; what does mostly waits, vehicles and devices most of all; whole fleets have the
# machine to themselves. Where all tests of a kind lie in a few folders, the workers read no others.
test: check mosquitto postgres ros vda5050-peer
	$(BIN)/python tests/ros/nav2_msgs_stub/building.py .cache/nav2_msgs
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not real and not waits"
	$(BIN)/python -m pytest -n 6 --dist worksteal -m waits tests/hardware
	$(BIN)/python -m pytest -n 4 --dist loadfile -m "real and not alone and not waits"
	$(BIN)/python -m pytest -m alone tests/demo tests/launching

clean:
	rm -rf $(VENV) .cache out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
