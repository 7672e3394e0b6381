"""The build backend of the package: scikit-build-core's, and the library's sources inside of source distributions.

The C library lies in the parent folder, which is more than a source distribution of this folder would take along: so
the parts of it that the package is built from are added to the archive, below core/.
"""

import io
import tarfile
import tempfile
from pathlib import Path

from scikit_build_core import build as scikit
from scikit_build_core.build import *  # noqa: F403  the hooks that are as they are

PACKAGE = Path(__file__).resolve().parent
CORE = ["CMakeLists.txt", "LICENSE", "README.md", "include", "src"]


def in_clone() -> bool:
    return not (PACKAGE / "core").exists()


def with_build_folder(settings):
    """In a clone, a second build compiles only what has changed; what is unpacked has no place to keep anything."""
    kept = {"build-dir": str(PACKAGE.parent / "build" / "python" / "{wheel_tag}")} if in_clone() else {}
    return {**kept, **(settings or {})}


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return scikit.build_wheel(wheel_directory, with_build_folder(config_settings), metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return scikit.build_editable(wheel_directory, with_build_folder(config_settings), metadata_directory)


def build_sdist(sdist_directory, config_settings=None):
    if not in_clone():
        return scikit.build_sdist(sdist_directory, config_settings)
    with tempfile.TemporaryDirectory() as folder:
        name = scikit.build_sdist(folder, config_settings)
        root = name[: -len(".tar.gz")]
        with tarfile.open(Path(folder, name)) as package, tarfile.open(Path(sdist_directory, name), "w:gz") as archive:
            for member in package.getmembers():
                archive.addfile(member, package.extractfile(member) if member.isfile() else None)
            for path in core_files():
                data = path.read_bytes()
                member = tarfile.TarInfo(f"{root}/core/{path.relative_to(PACKAGE.parent).as_posix()}")
                member.size = len(data)
                member.mode = 0o644
                member.mtime = int(path.stat().st_mtime)
                archive.addfile(member, io.BytesIO(data))
    return name


def core_files():
    """The files of the C library, in the order of their names."""
    for name in CORE:
        top = PACKAGE.parent / name
        yield from sorted(path for path in ([top] if top.is_file() else top.rglob("*")) if path.is_file())
