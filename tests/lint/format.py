"""Every C file is as clang-format leaves it."""

import os
import re
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
    sources = tree.files(".c", ".h")
    result = subprocess.run([command, "--style=file", "--dry-run", "--Werror", *sources],
                            text=True, capture_output=True)
    wrong = dict.fromkeys(re.findall(r"^(.*?):\d+:\d+: error:", result.stderr, re.M))
    findings = [f"run clang-format-14 -i {os.path.relpath(path, tree.ROOT)}" for path in wrong]
    if result.returncode != 0 and not findings:
        sys.exit(result.stderr)
    tree.report(findings, len(sources))


if __name__ == "__main__":
    main()
