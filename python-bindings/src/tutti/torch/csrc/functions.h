/* The functions of tutti that the torch backend calls, as a table.  tutti._c, which holds the one copy of the
 * library in the process, makes it; the backend, a module of its own that is compiled for one torch, is
 * handed its address when it is loaded.  So nothing is linked twice, and no symbol can be mixed up with that
 * of another tutti in the process. */
#ifndef TUTTI_TORCH_FUNCTIONS_H
#define TUTTI_TORCH_FUNCTIONS_H

#include <stddef.h>
#include "tutti/tutti.h"

#define TUTTI_FUNCTION_MAP(X)                                                                                \
    X(init)                                                                                                  \
    X(subgroup)                                                                                              \
    X(finalize)                                                                                              \
    X(free)                                                                                                  \
    X(abort)                                                                                                 \
    X(get_error)                                                                                             \
    X(strerror)                                                                                              \
    X(start)                                                                                                 \
    X(run)                                                                                                   \
    X(wait)                                                                                                  \
    X(alloc)                                                                                                 \
    X(dealloc)

struct tutti_functions {
    size_t struct_size;
#define TUTTI_FUNCTION_FIELD(name) __typeof__(&tutti_##name) name;
    TUTTI_FUNCTION_MAP(TUTTI_FUNCTION_FIELD)
#undef TUTTI_FUNCTION_FIELD
};

#endif
