"""docs/configuration.md is what the table of settings prints."""

import difflib
import subprocess
import sys

import tree


def main():
    command = sys.argv[1]
    printed = subprocess.run([command, "info", "--settings", "--markdown"], text=True, capture_output=True,
                             check=True).stdout
    path = tree.ROOT / "docs/configuration.md"
    difference = difflib.unified_diff(path.read_text().splitlines(), printed.splitlines(), tree.name(path),
                                      "tutti info --settings --markdown", lineterm="")
    findings = list(difference)
    if findings:
        findings.append("run: build/dev/bin/tutti info --settings --markdown > docs/configuration.md")
    tree.report(findings, printed.count("\n"))


if __name__ == "__main__":
    main()
