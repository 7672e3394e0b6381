"""The include law of docs/architecture.md: src/ is a stack of layers.  A file includes the public header and
headers of its own layer or of one below; the pure layers know no sockets, clocks, threads, randomness or
mutable globals; libuv is for the shell around them."""

import re

import tree

LAYERS = ["base", "tensor", "wire", "schedule", "algorithm", "executor", "group", "transport", "local", "engine", "tools"]
PURE = LAYERS[:LAYERS.index("transport")]
WITH_LIBUV = "transport", "engine", "tools"
GENERATED = {"control.pb-c.h": "wire"}  # belongs to the layer whose .proto it is made from

IMPURE_HEADERS = re.compile(
    r"^(sys/(socket|un|epoll|eventfd|timerfd|time|random|select|mman|ioctl)|pthread|threads|semaphore|time|poll|"
    r"sched|netdb|net/.*|netinet/.*|arpa/.*|ifaddrs|signal|uv|fcntl)\.h$")
IMPURE_CALLS = re.compile(
    r"(?<![\w.>])(clock_gettime|gettimeofday|time|nanosleep|usleep|sleep|rand|random|srand|getrandom|getenv|setenv|"
    r"socket|connect|bind|accept4?|recvmsg|sendmsg|fork|getpid|pthread_\w+)\s*\(")
# A definition at file scope that is not const; and a static variable in a function that is not.
MUTABLE = re.compile(r"^(?:static\s+)?(?!.*\bconst\b)(?!typedef\b|extern\b|(?:struct|union|enum)\s+\w+\s*[{;])"
                     r"[A-Za-z_][\w\s\*]*?[\w\]\*]\s+\**\w+(\[[^\]]*\])*\s*(=[^=].*|;)\s*$")
MUTABLE_LOCAL = re.compile(r"^\s+static\s+(?!.*\bconst\b)[^(]*$")


def strip(text):
    """C without comments and string literals, lines kept."""
    pattern = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)) if m.group(0)[0] == "/" else '""', text)


def check_include(layer, header, system):
    """A finding, or None."""
    if system or header == "uv.h":
        if header == "uv.h" and layer not in WITH_LIBUV:
            return f"includes uv.h: only {', '.join(WITH_LIBUV)} may; hand in what is needed as an argument"
        if layer in PURE and IMPURE_HEADERS.match(header):
            return f"includes <{header}>, but {layer}/ is pure: move the effect to engine/ and hand in the result"
        return None
    if header == "tutti/tutti.h":
        return None
    target = GENERATED.get(header, header.split("/")[0])
    if "/" not in header and header not in GENERATED:
        return f'includes "{header}": write it from src/ on, as "{layer}/{header}"'
    if target not in LAYERS:
        return f'includes "{header}", which is in no layer'
    if layer and LAYERS.index(target) > LAYERS.index(layer):
        return f'includes "{header}", but {layer}/ lies below {target}/: a layer knows only itself and those below'
    if not layer and target == "tools":
        return f'includes "{header}": the library knows nothing of its tools'
    return None


def check_purity(text):
    """(line number, finding) of calls and file-scope variables that a pure layer must not have."""
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        call = IMPURE_CALLS.search(line)
        if call and depth > 0:
            yield number, f"calls {call.group(1)}(), but this layer is pure: take the result as an argument"
        if depth == 0 and not line.startswith((" ", "\t", "#", "}")) and MUTABLE.match(line):
            yield number, "defines a variable that can change at file scope: this layer has no globals"
        if depth > 0 and MUTABLE_LOCAL.match(line):
            yield number, "defines a static variable that can change: this layer has no globals"
        depth += line.count("{") - line.count("}")


def check_file(path):
    relative = path.relative_to(tree.ROOT / "src")
    layer = relative.parts[0] if len(relative.parts) > 1 else None
    if layer is not None and layer not in LAYERS:
        yield f"{tree.name(path)}: {layer}/ is no layer: see docs/architecture.md"
        return
    text = path.read_text()
    for number, line in enumerate(text.splitlines(), 1):
        include = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
        if include:
            finding = check_include(layer, include.group(2), include.group(1) == "<")
            if finding:
                yield f"{tree.name(path)}:{number}: {finding}"
    if layer in PURE:
        for number, finding in check_purity(strip(text)):
            yield f"{tree.name(path)}:{number}: {finding}"


def self_test():
    """The rules find what they are for."""
    bad = ("static int counter;\nint f(void)\n{\n    static int calls;\n    return clock_gettime(0, 0);\n}\n"
           "struct state the_state = {0};\n")
    good = ("static const int table[] = {1};\nstruct a {\n    int time;\n};\nint f(int time);\nextern const int x;\n"
            "struct forward;\nint f(int time)\n{\n    static const char *const names[] = {0};\n    int local = time;\n    return s->read(local);\n}\n")
    assert [number for number, _ in check_purity(bad)] == [1, 4, 5, 7], list(check_purity(bad))
    assert not list(check_purity(good)), list(check_purity(good))
    assert check_include("wire", "engine/comm.h", False)
    assert check_include("wire", "uv.h", True)
    assert check_include("wire", "time.h", True)
    assert not check_include("wire", "base/error.h", False)


def main():
    self_test()
    sources = tree.files(".c", ".h", under=["src"])
    tree.report([finding for path in sources for finding in check_file(path)], len(sources))


if __name__ == "__main__":
    main()
