#include "tools/output.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tools/tools.h"

#define WRITE_BYTES 65536
#define READS_MAX   16 /* in one turn of the loop */

struct output {
    uv_poll_t poll;
    int fd, target;
    bool has_ended;
    void (*ended)(void *context);
    void *context;
    char prefix[OUTPUT_PREFIX_BYTES];
    size_t prefix_size;
    size_t line_size; /* of the line that is not complete yet */
    char line[OUTPUT_LINE_BYTES];
    size_t out_size; /* lines that wait to be written together */
    char out[WRITE_BYTES];
};

static bool write_out(struct output *output)
{
    bool written = write_all(output->target, output->out, output->out_size);
    output->out_size = 0;
    return written;
}

static bool put_line(struct output *output, const char *line, size_t size)
{
    if (output->out_size + output->prefix_size + size + 1 > sizeof output->out && !write_out(output))
        return false;
    char *end = output->out + output->out_size;
    memcpy(end, output->prefix, output->prefix_size);
    memcpy(end + output->prefix_size, line, size);
    end[output->prefix_size + size] = '\n';
    output->out_size += output->prefix_size + size + 1;
    return true;
}

/* Passes on the complete lines in the buffer, and its whole content when a line fills it. */
static bool put_lines(struct output *output)
{
    char *rest = output->line, *end = output->line + output->line_size, *newline;
    while ((newline = memchr(rest, '\n', (size_t)(end - rest)))) {
        if (!put_line(output, rest, (size_t)(newline - rest)))
            return false;
        rest = newline + 1;
    }
    output->line_size = (size_t)(end - rest);
    if (output->line_size == sizeof output->line) {
        output->line_size = 0;
        return put_line(output, rest, (size_t)(end - rest));
    }
    memmove(output->line, rest, output->line_size);
    return true;
}

static void stop(struct output *output)
{
    assert(!output->has_ended);
    output->has_ended = true;
    uv_poll_stop(&output->poll);
    close(output->fd);
}

/* True while more may come. */
static bool copy_some(struct output *output, int reads)
{
    bool more = true, written = true;
    while (more && written && reads-- > 0) {
        ssize_t n =
            read(output->fd, output->line + output->line_size, sizeof output->line - output->line_size);
        if (n > 0) {
            output->line_size += (size_t)n;
            written = put_lines(output);
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            break;
        } else if (n == 0 || errno != EINTR) {
            more = false;
        }
    }
    if (!more && written && output->line_size > 0) {
        written = put_line(output, output->line, output->line_size);
        output->line_size = 0;
    }
    return written && write_out(output) && more;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events; /* the read tells */
    struct output *output = poll->data;
    if (copy_some(output, READS_MAX))
        return;
    stop(output);
    output->ended(output->context);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

struct output *output_new(uv_loop_t *loop, int fd, int target, const char *prefix,
                          void (*ended)(void *context), void *context)
{
    struct output *output = malloc(sizeof *output);
    if (!output || uv_poll_init(loop, &output->poll, fd) < 0) {
        free(output);
        close(fd);
        return NULL;
    }
    output->poll.data = output;
    output->fd = fd;
    output->target = target;
    output->has_ended = false;
    output->ended = ended;
    output->context = context;
    output->prefix_size = strlen(prefix);
    assert(output->prefix_size < sizeof output->prefix);
    memcpy(output->prefix, prefix, output->prefix_size + 1);
    output->line_size = output->out_size = 0;
    uv_poll_start(&output->poll, UV_READABLE, on_readable);
    return output;
}

void output_close(struct output *output)
{
    if (!output->has_ended) {
        /* The rest that is there now; whoever still holds the pipe may go on writing for ever. */
        if (copy_some(output, READS_MAX) && output->line_size > 0 &&
            put_line(output, output->line, output->line_size))
            write_out(output);
        stop(output);
    }
    uv_close((uv_handle_t *)&output->poll, on_closed);
}
