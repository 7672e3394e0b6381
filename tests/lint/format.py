"""Every C file is as clang-format leaves it."""

import shutil
import subprocess
import sys

import tree


def main():
    command = shutil.which("clang-format-14") or shutil.which("clang-format")
    version = command and subprocess.run([command, "--version"], text=True, capture_output=True).stdout
    if not version or " 14." not in version:
        # Other versions lay out some lines differently, so their verdict would mean nothing.
        print(f"SKIPPED: clang-format 14 is not installed (found: {version})")
        sys.exit(77)
    findings, sources = [], tree.files(".c", ".h")
    for path in sources:
        text = path.read_bytes()
        wanted = subprocess.run([command, "--style=file", f"--assume-filename={path}"], input=text,
                                capture_output=True, check=True).stdout
        if wanted != text:
            lines = zip(text.splitlines(), wanted.splitlines())
            line = next((i for i, (have, want) in enumerate(lines, 1) if have != want), "end")
            findings.append(f"{tree.name(path)}:{line}: run clang-format-14 -i {tree.name(path)}")
    tree.report(findings, len(sources))


if __name__ == "__main__":
    main()
