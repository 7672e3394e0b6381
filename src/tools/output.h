/* The output of a child: copied line by line, so that the lines of several children do not mix. */
#ifndef TUTTI_TOOLS_OUTPUT_H
#define TUTTI_TOOLS_OUTPUT_H

#include <uv.h>

#define OUTPUT_LINE_BYTES   8192 /* a longer line is cut into pieces of this size */
#define OUTPUT_PREFIX_BYTES 24

struct output;

/* Copies what comes out of `fd` (a pipe, non-blocking; taken over, also on failure) to `target`, each line
 * after `prefix` (copied), and a last line without newline with one.  When `target` takes no more, `fd` is
 * closed, so that the writer learns it as in any pipeline.  Calls ended(context) once, when nothing more will
 * come; not after output_close().  NULL when out of memory. */
struct output *output_new(uv_loop_t *loop, int fd, int target, const char *prefix,
                          void (*ended)(void *context), void *context);

/* Copies what has come already, and closes.  Frees itself on the loop. */
void output_close(struct output *output);

#endif
