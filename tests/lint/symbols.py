"""The shared library exports what tutti.h declares, and nothing else."""

import re
import subprocess
import sys

import tree

SANITIZERS = re.compile(r"^(__asan|__odr_asan|__ubsan|__tsan|__sanitizer|_init$|_fini$)")


def main():
    library = sys.argv[1]
    table = subprocess.run(["nm", "-D", "--defined-only", "--format=posix", library], text=True,
                           capture_output=True, check=True).stdout
    exported = {line.split()[0].split("@")[0] for line in table.splitlines()}
    exported = {symbol for symbol in exported if not SANITIZERS.match(symbol)}
    header = (tree.ROOT / "include/tutti/tutti.h").read_text()
    declared = set(re.findall(r"^TUTTI_API\b[^;(]*?\b(tutti_\w+)\(", header, re.M))
    findings = [f"{symbol} is exported and not in tutti.h: make it static, or keep it hidden"
                for symbol in sorted(exported - declared)]
    findings += [f"{symbol} is in tutti.h and not exported: define it, with TUTTI_API in sight"
                 for symbol in sorted(declared - exported)]
    tree.report(findings, len(declared))


if __name__ == "__main__":
    main()
