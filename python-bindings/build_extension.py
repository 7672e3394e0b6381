"""Writes the C source of tutti._c: python build_extension.py COMPILER OUTPUT HEADER...

The declarations are those of the public header itself, expanded by the compiler, so that there is nothing to
keep in step with it.  Called by CMakeLists.txt.
"""

import re
import subprocess
import sys
from pathlib import Path

import cffi


def declarations(compiler: str, header: str) -> str:
    """The header as cffi can read it: expanded, without comments, attributes and what it includes."""
    text = Path(header).read_text()
    constants = re.findall(r"^#define (TUTTI_VERSION_\w+|TUTTI_RANK_ANY|TUTTI_ANY_\w+|TUTTI_NO_COLOR)\s", text, re.M)
    # The types of the system's headers are known to cffi; expanding them would only confuse it.
    text = re.sub(r"^#include .*$", "", text, flags=re.M)
    command = [compiler, "-E", "-P", "-DTUTTI_STATIC", "-x", "c", "-"]
    text = subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True, text=True).stdout
    return text + "".join(f"\n#define {name} ..." for name in constants)


def main(compiler: str, output: str, *headers: str) -> None:
    builder = cffi.FFI()
    for header in headers:
        builder.cdef(declarations(compiler, header))
    builder.set_source("tutti._c", "#define TUTTI_STATIC\n" + "".join(f'#include "{header}"\n' for header in headers))
    builder.emit_c_code(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
