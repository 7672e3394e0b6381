"""Functions fit a screen and files fit a sitting.  Aimed at are 70 and 500 lines (docs/architecture.md); what is
beyond the limits below fails.  Tables of data are not functions."""

import re

import tree
from include_law import strip

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 90


def functions(text):
    """(name, first line, lines) of each function body: a brace in the first column, as clang-format sets it."""
    lines = strip(text).splitlines()
    begin = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            begin = number
        elif line == "}" and begin is not None:
            head = " ".join(lines[max(0, begin - 6):begin - 1])
            names = re.findall(r"(\w+)\s*\(", re.split(r"[;}]", head)[-1])
            yield names[0] if names else "?", begin, number - begin + 1
            begin = None


def main():
    findings, checked = [], 0
    for path in tree.files(".c", ".h", ".py"):
        text = path.read_text()
        checked += 1
        length = text.count("\n")
        if length > FILE_LINES_MAX:
            findings.append(f"{tree.name(path)}: {length} lines, and {FILE_LINES_MAX} are the most: split it")
        if path.suffix == ".py":
            continue
        for function, line, length in functions(text):
            if length > FUNCTION_LINES_MAX:
                findings.append(f"{tree.name(path)}:{line}: {function}() has {length} lines, and "
                                f"{FUNCTION_LINES_MAX} are the most: split it")
    assert list(functions("int f(int a)\n{\n    if (a) {\n    }\n}\n")) == [("f", 2, 4)]
    tree.report(findings, checked)


if __name__ == "__main__":
    main()
