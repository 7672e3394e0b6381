"""The public header compiles alone, strictly, in each language that it is for."""

import subprocess
import sys
import tempfile

import tree

HEADER = "tutti/tutti.h"
LANGUAGES = [("c", "c11"), ("c", "c17"), ("c++", "c++11"), ("c++", "c++17"), ("c++", "c++20")]
# Twice, for the guard; and the macros expanded, as users do.
PROGRAM = f"""#include <{HEADER}>
#include <{HEADER}>
struct tutti_config config = TUTTI_CONFIG_INIT;
struct tutti_error error = TUTTI_ERROR_INIT;
struct tutti_link_info link_info = TUTTI_LINK_INFO_INIT;
"""


def main():
    compiler = sys.argv[1]
    findings = []
    with tempfile.NamedTemporaryFile("w", suffix=".c") as source:
        source.write(PROGRAM)
        source.flush()
        for language, standard in LANGUAGES:
            result = subprocess.run(
                [compiler, "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-pedantic", "-Wshadow",
                 "-Werror", "-fsyntax-only", f"-I{tree.ROOT / 'include'}", source.name],
                text=True, capture_output=True)
            if result.returncode != 0:
                findings.append(f"include/{HEADER} as {standard}:\n{result.stderr}")
    tree.report(findings, len(LANGUAGES))


if __name__ == "__main__":
    main()
