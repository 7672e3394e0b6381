"""What the lint tests share: the files of the source tree, and how a finding is reported."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
C_FOLDERS = "include", "src", "tests", "examples", "python-bindings"


def files(*suffixes, under=C_FOLDERS):
    """Sorted paths; build outputs and hidden folders are no part of the tree."""
    found = []
    for folder in under:
        for path in (ROOT / folder).rglob("*"):
            parts = path.relative_to(ROOT).parts
            if path.suffix in suffixes and path.is_file() and not any(
                    part.startswith(".") or part in ("build", "_skbuild") for part in parts):
                found.append(path)
    return sorted(found)


def name(path):
    return str(path.relative_to(ROOT))


def report(findings, checked):
    """Ends the test: each finding says where it is and how to mend it."""
    for finding in findings:
        print(finding)
    if not checked:
        sys.exit("nothing was checked: is the tree where this test thinks it is?")
    if findings:
        sys.exit(f"{len(findings)} finding(s)")
    print(f"{checked} checked")
