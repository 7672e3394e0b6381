"""Do the simulators find bugs?  Each patch beside this file plants one in the code that they are built of, one that a
human could make.  For each: a copy of that code, the patch, a build, and many seeds, of which one must violate an
invariant: of tests/sim/test_direct.c for a patch in src/local, of the fault simulator for others.  Prints which, and
fails for a bug that is not found."""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[3]
LAYERS = "base", "tensor", "wire", "schedule", "algorithm", "executor", "group", "local"
OTHER_SOURCES = "transport/shared_memory.c", "transport/descriptor.c"  # which src/local/symmetric_*.c need
SIMULATORS = {"simulate": 20000, "test_direct": 300}  # and how many seeds
RUN_SECONDS_MAX = 120
WRAPPED = "malloc", "calloc", "realloc", "aligned_alloc", "strdup", "free"


def flags_of(path):
    """The flags that src/CMakeLists.txt gives to single files."""
    x86 = os.uname().machine == "x86_64"
    if path.name == "reduce_avx2.c":
        return ["-mavx2", "-mfma", "-mf16c"] if x86 else []
    if path.name == "reduce_avx512.c":
        return ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c"] if x86 else []
    return ["-w"] if path.name == "control.pb-c.c" else []


class Builder:
    """Compiles the files of a tree; those that no patch touches only once."""

    def __init__(self, compiler, folder):
        self.compiler = compiler
        self.folder = folder
        self.objects = {}

    def object_of(self, path, includes):
        target = self.folder / f"{len(self.objects)}-{path.stem}.o"
        return target, [self.compiler, "-std=c11", "-O1", "-D_GNU_SOURCE", "-DTUTTI_FAILPOINTS", *flags_of(path),
                        *[f"-I{folder}" for folder in includes], "-c", str(path), "-o", str(target)]

    def compile(self, paths, includes, key):
        """The objects of these files; `key` says with which headers they are compiled."""
        objects, running = [], []
        for path in paths:
            content = (path.name, path.read_bytes(), key)
            if content not in self.objects:
                target, command = self.object_of(path, includes)
                self.objects[content] = target
                running.append(subprocess.Popen(command))
                if len(running) == 2:
                    self.wait(running)
            objects.append(str(self.objects[content]))
        self.wait(running)
        return objects

    @staticmethod
    def wait(running):
        while running:
            if running.pop().wait() != 0:
                sys.exit("a file cannot be compiled: see above")

    def link(self, objects, program):
        packages, wraps = ["libprotobuf-c"], []
        if program.name == "simulate":  # its memory can run out
            wraps = ["-Wl," + ",".join(f"--wrap={name}" for name in WRAPPED)]
        else:
            packages.append("cmocka")
        libraries = subprocess.run(["pkg-config", "--libs", *packages], text=True, capture_output=True,
                                   check=True).stdout.split()
        subprocess.run([self.compiler, "-o", str(program), *objects, *wraps, *libraries, "-lm", "-lpthread"], check=True)


def copy_sources(tree):
    for layer in LAYERS:
        shutil.copytree(ROOT / "src" / layer, tree / "src" / layer)
    shutil.copytree(ROOT / "src/transport", tree / "src/transport")
    shutil.copytree(ROOT / "include", tree / "include")
    shutil.copytree(HERE.parents[1], tree / "tests/sim", ignore=shutil.ignore_patterns("bugs"))


def build(builder, tree, protoc, program):
    generated = tree / "generated"
    generated.mkdir()
    subprocess.run([protoc, f"--c_out={generated}", f"-I{tree / 'src/wire'}", "control.proto"], check=True)
    paths = sorted(path for layer in LAYERS for path in (tree / "src" / layer).glob("*.c"))
    paths += [tree / "src" / path for path in OTHER_SOURCES] + [generated / "control.pb-c.c"]
    if program.name == "simulate":
        paths += sorted((tree / "tests/sim/fault").glob("*.c"))
    else:
        paths.append(tree / "tests/sim" / f"{program.name}.c")
    headers = b"".join(path.read_bytes() for path in sorted(tree.rglob("*.h")))
    builder.link(builder.compile(paths, [tree / "src", tree / "include", generated, tree], headers), program)


def simulator_for(patch):
    changed = re.findall(r"^\+\+\+ b/(\S+)", patch.read_text(), re.M)
    return "test_direct" if all(name.startswith("src/local/") for name in changed) else "simulate"


def try_patch(builder, patch, simulator, protoc):
    """What the simulator says: (seed, invariant), or (None, why not)."""
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        copy_sources(tree)
        if patch:
            result = subprocess.run(["patch", "-p1", "--no-backup-if-mismatch", "-d", str(tree), "-i", str(patch)],
                                    text=True, capture_output=True)
            if result.returncode != 0:
                return None, f"the patch does not apply any more: {result.stdout.strip()}"
        program = tree / simulator
        build(builder, tree, protoc, program)
        seeds = str(SIMULATORS[simulator])
        command = [str(program), *(["--seeds", seeds] if simulator == "simulate" else [])]
        environment = {**os.environ, "TUTTI_TEST_SEED": "1", "TUTTI_TEST_SEEDS": seeds}
        try:
            result = subprocess.run(command, text=True, capture_output=True, timeout=RUN_SECONDS_MAX, env=environment)
        except subprocess.TimeoutExpired:
            return None, f"no end within {RUN_SECONDS_MAX} s"
    found = re.search(r"^seed (\d+) violates an invariant: ([^:\n]*)", result.stdout, re.M)
    if found:
        return int(found.group(1)), found.group(2)
    return None, "not found" if result.returncode == 0 else f"status {result.returncode}: {result.stderr[-300:]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", help="the patches whose names match")
    parser.add_argument("--compiler", default="cc")
    parser.add_argument("--protoc", default="protoc-c")
    arguments = parser.parse_args()
    patches = sorted(HERE.glob("*.patch"))
    if arguments.only:
        patches = [patch for patch in patches if re.search(arguments.only, patch.stem)]
    if not patches:
        sys.exit("there is no such patch")
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        builder = Builder(arguments.compiler, pathlib.Path(folder))
        for simulator in sorted({simulator_for(patch) for patch in patches}):
            seed, what = try_patch(builder, None, simulator, arguments.protoc)
            if seed or what != "not found":
                sys.exit(f"{simulator} without any patch: {what}{f', seed {seed}' if seed else ''}: what is found below "
                         "would mean nothing")
        print(f"{'patch':42} {'seed':>6}  invariant")
        for patch in patches:
            seed, what = try_patch(builder, patch, simulator_for(patch), arguments.protoc)
            print(f"{patch.stem:42} {seed if seed else '-':>6}  {what}", flush=True)
            if not seed:
                missed.append(patch.stem)
    if missed:
        sys.exit(f"not found: {', '.join(missed)}")


if __name__ == "__main__":
    main()
