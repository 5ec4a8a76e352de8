#!/bin/sh
# Installs what pip cannot: a C++ compiler and Python's headers for the ROS interfaces, the libraries that MuJoCo draws
# with (EGL, Mesa's software renderer), those that OpenCV loads, and venv where Debian splits it off.
# Usage: tools/system_libraries.sh PYTHON
set -eu
python=${1:-python3}

missing=""
need() { missing="$missing $1"; }
has_library() { "$python" -c "import ctypes; ctypes.CDLL('$1')" 2>/dev/null; }
has_file() { [ -e "$1" ]; }

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case "$version" in
  3.1[0-9]) ;;
  *) echo "Python: expected 3.10 or newer, got $version from '$python'. Name another with: make PYTHON=/path/to/python3" >&2
     exit 1 ;;
esac
command -v g++ >/dev/null || need build-essential
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
  || need "python$version-dev"
"$python" -c 'import ensurepip, venv' 2>/dev/null || need "python$version-venv"
has_library libEGL.so.1 || need libegl1
has_library libGL.so.1 || need libgl1
has_library libgthread-2.0.so.0 || need libglib2.0-0
# Mesa's software renderer is one file or another, by version and distribution.
has_file /usr/lib*/*/dri/swrast_dri.so || has_file /usr/lib*/dri/swrast_dri.so || has_file /usr/lib*/*/libgallium*.so \
  || has_file /usr/lib*/libgallium*.so || need libgl1-mesa-dri
has_library libEGL_mesa.so.0 || need libegl-mesa0
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "Please install your system's packages for these Debian ones:$missing" >&2
  exit 1
fi
# shellcheck disable=SC2086  # a list of words
if [ "$(id -u)" = 0 ]; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  sudo apt-get update -q
  sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
else
  echo "Some system packages are missing. Please run this, then try again:" >&2
  echo "  sudo apt-get update && sudo apt-get install --no-install-recommends$missing" >&2
  exit 1
fi
