"""Print the build requirements of pyproject.toml, one a line, for `pip install -r`.

pip has no option that installs them without building, and both a build without isolation (fast rebuilds) and colcon
need them in the environment.
"""

from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
print("\n".join(project["build-system"]["requires"]))
