"""Installs tutti to a temporary prefix and builds one program in C and in C++ in each supported way: CMake
package (shared, static) and pkg-config (shared, static).  Every program must run and give the right answer."""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SOURCES = pathlib.Path(__file__).resolve().parent / "consumer"


def run(*command, **options):
    print("+", " ".join(str(part) for part in command), flush=True)
    result = subprocess.run([str(part) for part in command], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, timeout=200, **options)
    if result.returncode != 0:
        sys.exit(f"{result.stdout}\nexit status {result.returncode}: {' '.join(map(str, command))}")
    return result.stdout


def cxx_for(cc):
    """The C++ compiler that belongs to a C compiler: gcc-12 -> g++-12, clang -> clang++, cc -> c++."""
    path = pathlib.Path(cc)
    name = re.sub(r"clang", "clang++", path.name)
    if name == path.name:
        name = re.sub(r"gcc", "g++", path.name)
    if name == path.name:
        name = re.sub(r"cc", "c++", path.name)
    return str(path.with_name(name))


def check(program, libraries):
    """Runs a consumer with nothing but the prefix to find libraries in."""
    environment = dict(os.environ, LD_LIBRARY_PATH=str(libraries))
    for name in list(environment):
        if name.startswith("TUTTI_"):
            del environment[name]
    output = run(program, env=environment)
    if "sum 6" not in output:
        sys.exit(f"{program} printed {output!r} and not 'sum 6'")


def is_linked_to_shared(program):
    return "libtutti.so" in run("readelf", "-d", program)


def by_cmake(arguments, prefix, libraries, build):
    run(arguments.cmake, "-S", SOURCES, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}",
        f"-DCMAKE_C_COMPILER={arguments.cc}", f"-DCMAKE_CXX_COMPILER={cxx_for(arguments.cc)}")
    run(arguments.cmake, "--build", build)
    for language in "c", "cxx":
        for kind in "shared", "static":
            program = build / f"{language}_{kind}"
            check(program, libraries)
            if is_linked_to_shared(program) != (kind == "shared"):
                sys.exit(f"{program} is not linked to the {kind} library")


def by_pkg_config(arguments, prefix, libraries, build, kind):
    build.mkdir()
    environment = dict(os.environ, PKG_CONFIG_PATH=str(libraries / "pkgconfig"))
    query = ["pkg-config", "--cflags", "--libs", "tutti"]
    if kind == "static":
        query.insert(1, "--static")
    flags = run(*query, env=environment).split()
    if (kind == "static") != ("-DTUTTI_STATIC" in flags):
        sys.exit(f"pkg-config for {kind} use says {flags}")
    for compiler, source in (arguments.cc, "consumer.c"), (cxx_for(arguments.cc), "consumer.cpp"):
        program = build / source.replace(".", "_")
        run(compiler, "-Wall", "-Wextra", "-Werror", SOURCES / source, "-o", program, *flags)
        check(program, libraries)
        if is_linked_to_shared(program) != (kind == "shared"):
            sys.exit(f"{program} is not linked to the {kind} library")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cmake", required=True)
    parser.add_argument("--build", required=True, help="build folder of tutti")
    parser.add_argument("--cc", required=True)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="tutti-package-") as folder:
        folder = pathlib.Path(folder)
        prefix = folder / "prefix"
        run(arguments.cmake, "--install", arguments.build, "--prefix", prefix)
        libraries = next(prefix.rglob("libtutti.so")).parent
        by_cmake(arguments, prefix, libraries, folder / "cmake")
        by_pkg_config(arguments, prefix, libraries, folder / "pkg-config-shared", "shared")

        # The linker prefers a shared library of the same name, so a static link is asked for by there
        # being no shared one.  The tree is moved at the same time: nothing may depend on where it was.
        static = folder / "moved"
        shutil.move(prefix, static)
        libraries = static / libraries.relative_to(prefix)
        for shared in libraries.glob("libtutti.so*"):
            shared.unlink()
        by_pkg_config(arguments, static, libraries, folder / "pkg-config-static", "static")
        command = next(static.rglob("bin/tutti"))
        if "0.2" not in run(command, "--version"):
            sys.exit("the installed command does not tell its version")
    print("8 consumers built and run")


if __name__ == "__main__":
    main()
