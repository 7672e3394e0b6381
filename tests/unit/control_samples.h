/* Control messages for tests, and the way there and back through bytes. */
#ifndef TUTTI_TESTS_CONTROL_SAMPLES_H
#define TUTTI_TESTS_CONTROL_SAMPLES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/error.h"
#include "wire/control.h"
#include "wire/frame.h"

static uint8_t id_bytes[17] = "member-id-of-16b";
static char *addresses[65];

static inline Wire__Join sample_join(void)
{
    Wire__Join join = WIRE__JOIN__INIT;
    join.job = (char *)"train";
    join.member_id = (ProtobufCBinaryData){16, id_bytes};
    join.rank = -1;
    join.size = 4;
    join.host = (char *)"boot-id";
    join.host_name = (char *)"n\xc3\xb6"
                             "de1"; /* UTF-8 is text too */
    join.pid = 4711;
    join.addresses = addresses;
    join.n_addresses = 2;
    join.slice_bytes = 262144;
    join.checksum = true;
    join.join_timeout_ms = 60000;
    join.missing_after_ms = 10000;
    return join;
}

static inline Wire__Peer sample_peer(uint32_t rank)
{
    Wire__Peer peer = WIRE__PEER__INIT;
    peer.rank = rank;
    peer.member_id = (ProtobufCBinaryData){16, id_bytes};
    peer.host = (char *)"boot-id";
    peer.host_name = (char *)"node1";
    peer.pid = 4711;
    peer.addresses = addresses;
    peer.n_addresses = 1;
    return peer;
}

static inline int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
        addresses[i] = (char *)"10.0.0.1:4711";
    return 0;
}

/* Encodes and decodes; both must succeed, and encoding once more must give the same bytes. */
static inline Wire__Control *round_trip(const Wire__Control *before)
{
    size_t size, again_size;
    uint8_t *bytes = control_encode(before, &size);
    assert_non_null(bytes);
    struct tutti_error error = TUTTI_ERROR_INIT;
    Wire__Control *after = control_decode(bytes, size, &error);
    if (!after)
        fail_msg("not decoded: %s", error.message);
    assert_int_equal(after->body_case, before->body_case);
    uint8_t *again = control_encode(after, &again_size);
    assert_non_null(again);
    assert_int_equal(again_size, size);
    assert_memory_equal(again, bytes, size);
    free(again);
    free(bytes);
    return after;
}

static inline Wire__Abort sample_abort(void)
{
    Wire__Abort abort = WIRE__ABORT__INIT;
    abort.status = TUTTI_ERR_PEER_LOST;
    abort.rank = 3;
    abort.host = (char *)"node1";
    abort.operation = (char *)"all_reduce";
    abort.sequence = 17;
    abort.message = (char *)"rank 2 lost rank 3";
    abort.from = 2;
    abort.instance = UINT64_MAX;
    abort.generation = 5;
    abort.moved_bytes = 65536;
    return abort;
}

static inline Wire__Control control_of_join(Wire__Join *join)
{
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_JOIN;
    message.join = join;
    return message;
}

#endif
