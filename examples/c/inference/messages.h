/* What server and clients say to each other over the Unix socket, in the byte order of the host:
 *     server: hello           client: request           server: reply           client: request ...
 * A request is the input, hello.width float32 (integers from -8 to 8). */
#ifndef INFERENCE_MESSAGES_H
#define INFERENCE_MESSAGES_H

#include <stdint.h>

#define HELLO_MAGIC 0x706c6d74u

struct hello {
    uint32_t magic;
    uint32_t width, hidden; /* of the model: a client that knows them can compute the answers by itself */
    uint32_t ranks;
};

struct reply {
    uint32_t failed; /* 0: hello.width float32 follow; 1: a sentence that says why, and then the end */
    uint32_t bytes;  /* that follow */
};

#endif
