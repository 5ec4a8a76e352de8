# The two commands: `make demo` and `make test`. Each sets up everything it needs and does nothing twice.
#   make PYTHON=/usr/bin/python3.12 test    another interpreter for the environment
#   make VENV=/tmp/venv demo                another place for it

PYTHON ?= python3
VENV ?= .venv
PIP := $(VENV)/bin/pip --disable-pip-version-check
# Console scripts rather than `python -m`: that would put this folder, and with it the sources without the generated
# messages, before the installed package. MuJoCo draws without a screen; one software rendering thread a process is fastest where several processes draw.
RUN := env AMENT_PREFIX_PATH=$(abspath $(VENV)) MUJOCO_GL=$${MUJOCO_GL:-egl} LP_NUM_THREADS=$${LP_NUM_THREADS:-1}
SOURCES := CMakeLists.txt package.xml setup.py pyproject.toml README.md \
	$(shell find mirage_ros msg srv action config launch scripts weights cmake -name __pycache__ -prune -o -print)
TESTS ?= test
# Processes that share the tests, a module each at a time; 0 for none.
WORKERS ?= 2

.PHONY: help setup demo test lint format docs colcon clean

help:
	@echo "make demo    set up, run camera, node and client, leave a page in out/demo (RGBD=folder for a recorded walk)"
	@echo "make test    set up, run the tests (TESTS=test/ros for a part, WORKERS=0 for one process)"
	@echo "make lint    ruff, mypy"
	@echo "make docs    render the API reference into build/docs"
	@echo "make colcon  build with colcon into build/colcon, against the same environment"
	@echo "make clean   remove the environment and everything built"

setup: $(VENV)/.package

$(VENV)/.environment: constraints.txt pyproject.toml tools/build_requirements.py tools/system_libraries.sh
	tools/system_libraries.sh $(PYTHON)
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	# torch first and alone: what depends on it must find this build, not fetch another one.
	$(PIP) install -q -c constraints.txt torch
	$(VENV)/bin/python tools/build_requirements.py > $(VENV)/build-requirements.txt
	$(PIP) install -q -c constraints.txt -r $(VENV)/build-requirements.txt
	touch $@

# Without isolation, a rebuild takes seconds: CMake and ninja see what changed.
$(VENV)/.package: $(VENV)/.environment $(SOURCES)
	PATH=$(abspath $(VENV))/bin:$$PATH $(PIP) install -q -c constraints.txt --no-build-isolation ".[dev,eval,train]"
	touch $@

demo: setup
	$(RUN) $(VENV)/bin/mirage demo --out out/demo $(if $(RGBD),--rgbd $(RGBD)) $(DEMO)

test: setup
	$(RUN) $(VENV)/bin/pytest -n $(WORKERS) $(TESTS)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: setup
	$(RUN) $(VENV)/bin/python tools/api_reference.py build/docs

colcon: setup
	PATH=$(abspath $(VENV))/bin:$$PATH AMENT_PREFIX_PATH=$(abspath $(VENV)) CMAKE_PREFIX_PATH=$(abspath $(VENV)) \
	$(VENV)/bin/colcon --log-base build/colcon/log build --base-paths . \
	  --build-base build/colcon/build --install-base build/colcon/install --event-handlers console_direct+ \
	  --cmake-args -GNinja -DBUILD_TESTING=OFF -DPython3_EXECUTABLE=$(abspath $(VENV))/bin/python \
	  -DCMAKE_PROJECT_INCLUDE=$(CURDIR)/cmake/pip_wheels.cmake

clean:
	rm -rf $(VENV) build out
