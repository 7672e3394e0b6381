"""Compiles the C++ part of the torch backend against the PyTorch that is installed, finds it again, and loads it.

PyTorch promises no binary interface to C++: a module fits one release of it.  So the sources (csrc/) come with the
package, and ``python -m tutti.torch build`` compiles them where they are to run; nothing is ever compiled at import.
The name of the module tells the versions of tutti, torch and Python and a hash of all that it was made from: one
that has become stale is not found, and so never loaded.

Depends on nothing of tutti: CMake runs this file as a program too, when a wheel is built where torch is importable.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.machinery
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = Path(__file__).resolve().parent
SOURCES = PACKAGE / "csrc"
MODULE = "tutti.torch._backend"
FLAGS = ["-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall"]
LIBRARIES = ["c10", "torch_cpu", "torch", "torch_python"]
COMPILE_TIMEOUT_S = 900
# The headers of torch take about a gigabyte of memory for each compiler.
COMPILERS_AT_ONCE = 2
ERROR_LINES = 30


class BuildError(Exception):
    """The backend could not be built; the text says why, and how to mend it."""


# ---- What is there ------------------------------------------------------------------------------


def build_command() -> str:
    """What to type to build the backend for this Python."""
    return f"{shlex.quote(sys.executable)} -m tutti.torch build"


def import_torch() -> Any:
    """The module torch; raises BuildError where it is not installed or does not work."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library that torch needs is missing
        raise BuildError(
            f"PyTorch cannot be imported by {sys.executable} ({error}): install it there "
            f"(`{shlex.quote(sys.executable)} -m pip install torch`), then run `{build_command()}`"
        ) from error
    if not torch.distributed.is_available():
        raise BuildError(f"torch {torch.__version__} was built without torch.distributed, which tutti is a backend of")
    return torch


def find_header() -> Path:
    """tutti/tutti.h: beside the sources in an installed package, else in the source tree that this file lies in."""
    for folder in SOURCES, PACKAGE / "../../../../include", PACKAGE / "../../../core/include":
        if (folder / "tutti" / "tutti.h").is_file():
            return (folder / "tutti" / "tutti.h").resolve()
    raise BuildError(f"tutti/tutti.h is missing in {SOURCES}: install tutti anew")


def module_name(torch: Any, header: Path) -> str:
    """The file name of the module that fits ``torch``, this Python, and the sources as they are now."""
    version = [re.search(rf"#define TUTTI_VERSION_{part} (\d+)", header.read_text()) for part in
               ("MAJOR", "MINOR", "PATCH")]
    tutti = ".".join(match.group(1) for match in version if match)
    made_from = hashlib.sha256(repr([FLAGS, torch.version.git_version, cxx11_abi(torch)]).encode())
    for path in [header, *sorted(path for path in SOURCES.iterdir() if path.suffix in (".cpp", ".h"))]:
        made_from.update(f"\n{path.name}\n".encode() + path.read_bytes())
    soabi = sysconfig.get_config_var("SOABI")
    return f"_backend-{tutti}-torch{torch.__version__}-{made_from.hexdigest()[:12]}.{soabi}.so"


def cxx11_abi(torch: Any) -> int:
    """The value of _GLIBCXX_USE_CXX11_ABI with which ``torch`` was compiled."""
    return int(torch.compiled_with_cxx11_abi())


def module_folders() -> list[Path]:
    """Where a built module may lie: the package itself, and the user's cache for a package that is read-only."""
    folders = [PACKAGE / "built"]
    for cache in os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache"):
        if os.path.isabs(cache):  # a container's user may have no home
            folders.append(Path(cache, "tutti", "torch"))
            break
    return folders


def find() -> Path | None:
    """The built module that fits the torch of this process, or None.

    Raises BuildError where there is no torch that a module could fit.
    """
    name = module_name(import_torch(), find_header())
    return next((folder / name for folder in module_folders() if (folder / name).is_file()), None)


def load() -> ModuleType:
    """The built module, loaded once; raises ImportError with one sentence that says what to type.  Any thread."""
    if MODULE in sys.modules:
        return sys.modules[MODULE]
    try:
        path = find()
    except BuildError as error:
        raise ImportError(str(error), name=MODULE) from error
    torch = import_torch()
    if path is None:
        raise ImportError(
            f"the torch backend of tutti has not been built for torch {torch.__version__}: run `{build_command()}` "
            "(about a minute, needs g++)", name=MODULE)
    loader = importlib.machinery.ExtensionFileLoader(MODULE, str(path))
    try:
        module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(MODULE, path, loader=loader))
        loader.exec_module(module)
    except ImportError as error:
        raise ImportError(
            f"the torch backend of tutti cannot be loaded with torch {torch.__version__} ({error}): run "
            f"`{build_command()} --force` (about a minute, needs g++)", name=MODULE, path=str(path)) from error
    return sys.modules.setdefault(MODULE, module)


def find_compiler() -> list[str]:
    """The command of the C++ compiler: CXX, else the first of c++, g++ and clang++ that is installed."""
    wanted = shlex.split(os.environ.get("CXX", ""))
    if wanted:
        if shutil.which(wanted[0]) is None:
            raise BuildError(f"the C++ compiler {wanted[0]!r}, which the variable CXX names, is not installed")
        return wanted
    for name in "c++", "g++", "clang++":
        path = shutil.which(name)
        if path is not None:
            return [path]
    raise BuildError("no C++ compiler is installed (c++, g++ or clang++; Debian: apt-get install g++); "
                     "the variable CXX names one at another place")


def find_python_headers() -> Path:
    """The folder of Python.h."""
    folder = Path(sysconfig.get_paths()["include"])
    if not (folder / "Python.h").is_file():
        raise BuildError(f"the headers of Python are missing ({folder}/Python.h; Debian: apt-get install python3-dev)")
    return folder


# ---- Building -----------------------------------------------------------------------------------


def build(folder: Path | None = None, verbose: bool = False, force: bool = False) -> Path:
    """Builds the module for the torch of this process and returns its path; does nothing where it is there already.

    ``folder`` is where to put it, else the first of module_folders() that can be written; ``force`` builds it even
    so.  Raises BuildError.  Several processes may build at once: each works in a folder of its own, and the
    complete module gets its name at a single stroke.
    """
    torch, header = import_torch(), find_header()
    name = module_name(torch, header)
    if not force:
        built = find() if folder is None else folder / name
        if built is not None and built.is_file():
            return built
    compiler = find_compiler()
    flags = compile_flags(torch, header)
    target = make_folder([folder] if folder else module_folders()) / name
    print(f"building the torch backend of tutti for torch {torch.__version__} with {shlex.join(compiler)} "
          "(about a minute)", flush=True)
    with tempfile.TemporaryDirectory(prefix="tutti-torch-") as scratch:
        objects = compile_sources([*compiler, *flags], Path(scratch), verbose)
        # The libraries of torch are in the process before the module is: it needs their names, and no path to them.
        libraries = [f"-L{Path(torch.__file__).parent / 'lib'}", *(f"-l{library}" for library in LIBRARIES)]
        link_flags = shlex.split(os.environ.get("LDFLAGS", ""))
        unfinished = target.with_name(f".{name}.{os.getpid()}")
        try:
            run_compiler([*compiler, "-shared", *objects, *libraries, "-o", str(unfinished), *link_flags], verbose)
            os.replace(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)
    if target.parent == PACKAGE / "built":
        remove_others(target, f"_backend-*-torch{torch.__version__}-*.{sysconfig.get_config_var('SOABI')}.so")
    return target


def compile_flags(torch: Any, header: Path) -> list[str]:
    return [
        *FLAGS,
        f"-D_GLIBCXX_USE_CXX11_ABI={cxx11_abi(torch)}",
        f"-I{SOURCES}",
        f"-I{header.parents[1]}",
        *(f"-isystem{path}" for path in [find_python_headers(), *torch_headers(torch)]),
        *shlex.split(os.environ.get("CXXFLAGS", "")),
    ]


def compile_sources(compiler: list[str], scratch: Path, verbose: bool) -> list[str]:
    """Compiles csrc/*.cpp into the folder ``scratch``; returns the object files.  The first fault ends it."""
    commands = {}
    for source in sorted(SOURCES.glob("*.cpp")):
        target = str(scratch / f"{source.stem}.o")
        commands[target] = [*compiler, "-c", str(source), "-o", target]
    if not commands:
        raise BuildError(f"the sources of the backend are missing in {SOURCES}: install tutti anew")
    with ThreadPoolExecutor(COMPILERS_AT_ONCE) as pool:
        running = [pool.submit(run_compiler, command, verbose) for command in commands.values()]
        try:
            for compilation in running:
                compilation.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return list(commands)


def torch_headers(torch: Any) -> list[Path]:
    include = Path(torch.__file__).parent / "include"
    if not (include / "torch").is_dir():
        raise BuildError(f"this PyTorch came without its C++ headers ({include}): install one of PyPI's wheels")
    return [include, include / "torch" / "csrc" / "api" / "include"]


def make_folder(folders: list[Path]) -> Path:
    """The first of ``folders`` in which files can be made."""
    failures = []
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as error:
            failures.append(str(error))
    raise BuildError(f"the module can be written nowhere: {'; '.join(failures)}")


def run_compiler(command: list[str], verbose: bool) -> None:
    if verbose:
        print(shlex.join(command), flush=True)
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                              text=True, errors="replace", timeout=COMPILE_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"the C++ compiler cannot be run: {error}") from error
    if verbose and done.stdout:
        print(done.stdout, end="", flush=True)
    if done.returncode != 0:
        said = "\n".join(done.stdout.splitlines()[-ERROR_LINES:])
        raise BuildError(f"{said}\nthe C++ compiler failed (exit status {done.returncode}); what it said is above, "
                         f"and its command was: {shlex.join(command)}{hint(done)}")


def hint(done: subprocess.CompletedProcess) -> str:
    """What is known to lie behind some failures of the compiler."""
    if done.returncode < 0 or "Killed" in done.stdout:
        return "\nThe compiler was killed: it probably ran out of memory (about 1 GiB each for two at a time)."
    if re.search(r"(unrecognized|invalid).*-std=c\+\+20", done.stdout):
        return "\nThis compiler does not know C++20: g++ 10 or clang++ 12 and later do; the variable CXX names another."
    return ""


def remove_others(current: Path, pattern: str) -> None:
    """Removes what is named by ``pattern`` beside ``current``: modules that were made from something else."""
    for path in current.parent.glob(pattern):
        if path != current:
            path.unlink(missing_ok=True)


def main() -> None:
    """What CMake runs: builds the module into the given folder."""
    parser = argparse.ArgumentParser(description="Compiles the torch backend of tutti.")
    parser.add_argument("folder", type=Path, help="where to put the module")
    folder = parser.parse_args().folder
    try:
        module = build(folder)
    except BuildError as error:
        sys.exit(f"error: {error}\n(to leave the torch backend out of the package, configure with "
                 "-DTUTTI_BUILD_TORCH=OFF; of pip: --config-settings=cmake.define.TUTTI_BUILD_TORCH=OFF)")
    remove_others(module, "_backend-*.so")


if __name__ == "__main__":
    main()
