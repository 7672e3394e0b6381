/* Three variables of the C library by names of their own.  An archive of libuv that is compiled for programs
 * (Debian's) can become part of a Python module but for its uses of these, which the linker can resolve only
 * inside the module: CMakeLists.txt gives them other names in a copy of the archive, and adds this file to
 * it. */
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#define HIDDEN __attribute__((visibility("hidden")))

HIDDEN extern char **tutti_libuv_environ;
HIDDEN extern FILE *tutti_libuv_stderr;
HIDDEN extern const struct in6_addr tutti_libuv_in6addr_any;

/* As the module was loaded; only uv_os_environ() and uv_spawn() read it, and tutti calls neither. */
char **tutti_libuv_environ;
FILE *tutti_libuv_stderr;
const struct in6_addr tutti_libuv_in6addr_any = IN6ADDR_ANY_INIT;

__attribute__((constructor)) static void copy_variables(void)
{
    tutti_libuv_environ = environ;
    tutti_libuv_stderr = stderr;
}
