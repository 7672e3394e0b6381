"""Makes a source distribution of the Python package, a wheel from that, and installs the wheel in an environment of
its own, as a user would.  What is installed must need no library but the C library's, and must work."""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Of the C library, and so on every machine that the wheel fits.
LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"}
SCRIPT = """
import numpy as np, tutti
with tutti.init() as comm:
    array = np.full(100_000, comm.rank + 1.0)
    comm.all_reduce(array)
    print(f"rank {comm.rank} has {array.min()} to {array.max()}")
"""
WITHOUT_TORCH = """
import sys, _tutti_torch
_tutti_torch.register()
sys.exit("tutti was imported by what `import torch` calls" if "tutti" in sys.modules else 0)
"""


def environment():
    """This process's environment without what would lead Python or the ranks to another tutti."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TUTTI_", "PYTHON", "CMAKE_"))}


def run(*command, status=0, cwd):
    print("+", " ".join(str(part) for part in command), flush=True)
    result = subprocess.run([str(part) for part in command], text=True, stdout=subprocess.PIPE, cwd=cwd,
                            stderr=subprocess.STDOUT, timeout=280, env=environment())
    if result.returncode != status:
        sys.exit(f"{result.stdout}\nexit status {result.returncode}: {' '.join(map(str, command))}")
    return result.stdout


def make_environment(python, folder, *packages):
    """A virtual environment with the packages; returns its folder of programs."""
    run(python, "-m", "venv", folder, cwd=folder.parent)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages,
        cwd=folder.parent)
    return folder / "bin"


def check_contents(distribution, wheel):
    with tarfile.open(distribution) as archive:
        names = archive.getnames()
    for wanted in r"core/src/communicator\.c", r"core/include/tutti/tutti\.h", r"core/LICENSE", r"src/tutti/_init\.py":
        if not any(re.fullmatch(rf"tutti-[^/]+/{wanted}", name) for name in names):
            sys.exit(f"the source distribution has no {wanted}: {names}")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    torch = "tutti/torch"
    for wanted in (f"{torch}/_build.py", f"{torch}/csrc/functions.h", f"{torch}/csrc/module.cpp",
                   f"{torch}/csrc/tutti/tutti.h", "_tutti_torch.py", "tutti/licenses/tutti"):
        if wanted not in names:
            sys.exit(f"the wheel has no {wanted}: {names}")
    if any(name.startswith(f"{torch}/built/") for name in names):
        sys.exit(f"the wheel has a torch backend, but there was no torch to build it for: {names}")


def check_binary(path):
    """Nothing is needed but the C library, and nothing is looked for in the folders of this machine."""
    dynamic = run("readelf", "--dynamic", path, cwd=path.parent)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
    strange = {name for name in needed - LIBRARIES if not name.startswith("ld-linux")}
    if strange or "libc.so.6" not in needed or "PATH)" in dynamic:
        sys.exit(f"{path} needs {sorted(strange)} beside the C library:\n{dynamic}")


def check_symbols(path):
    """What the module has inside cannot be mixed up with other copies of it in the process."""
    symbols = run("nm", "--dynamic", "--defined-only", path, cwd=path.parent).split()[2::3]
    if symbols != ["PyInit__c"]:
        sys.exit(f"{path} offers other symbols than PyInit__c: {symbols}")


def check_command(programs, folder):
    script = folder / "script.py"
    script.write_text(SCRIPT)
    output = run(programs / "tutti", "run", "-n", "2", programs / "python", script, cwd=folder)
    for rank in range(2):
        if f"rank {rank} has 3.0 to 3.0" not in output:
            sys.exit(f"two ranks of the installed package printed {output!r}")


def check_without_torch(python, folder):
    run(python, "-c", WITHOUT_TORCH, cwd=folder)
    for command in "info", "build":
        output = run(python, "-m", "tutti.torch", command, status=1, cwd=folder)
        if "PyTorch" not in output or "Traceback" in output:
            sys.exit(f"without torch, `python -m tutti.torch {command}` says: {output}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="makes the environments; needs Python's headers")
    python = os.path.abspath(parser.parse_args().python)
    with tempfile.TemporaryDirectory(prefix="tutti-wheel-") as folder:
        folder = pathlib.Path(folder)
        builder = make_environment(python, folder / "builder", "build", "scikit-build-core>=0.10", "cffi>=1.15")
        run(builder / "python", "-m", "build", "--no-isolation", "--outdir", folder / "dist", ROOT / "python-bindings",
            cwd=folder)
        distribution, wheel = (next((folder / "dist").glob(f"tutti-*.{kind}")) for kind in ("tar.gz", "whl"))
        check_contents(distribution, wheel)

        programs = make_environment(python, folder / "user", wheel)
        module = next((folder / "user").rglob("tutti/_c.*.so"))
        check_binary(module)
        check_binary(programs / "tutti")
        check_symbols(module)
        check_command(programs, folder)
        check_without_torch(programs / "python", folder)
    print("the wheel that was made from the source distribution works")


if __name__ == "__main__":
    main()
