#include "wire/frame.h"

#include <assert.h>
#include <stdio.h>
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "tensor/type.h"

#define FRAME_KNOWN_FLAGS  FRAME_HAS_PAYLOAD_CRC
#define MAGIC_BYTES        4
#define VERSION_OFFSET     4
#define HEADER_CRC_OFFSET  60
#define DESCRIBE_BYTES_MAX 16 /* of foreign bytes that an error sentence shows */

/* ---- What arrived instead ---------------------------------------------------------------------- */

/* Protocols whose clients or servers are likely to meet a tutti port, by how they begin. */
static const struct {
    const char *start, *meaning;
} protocols[] = {
    {"GET ", "an HTTP request"},   {"POST", "an HTTP request"},     {"HEAD", "an HTTP request"},
    {"PUT ", "an HTTP request"},   {"OPTIONS", "an HTTP request"},  {"DELETE", "an HTTP request"},
    {"PATCH", "an HTTP request"},  {"CONNECT", "an HTTP request"},  {"PRI * HTTP", "an HTTP/2 request"},
    {"HTTP/", "an HTTP response"}, {"\x16\x03", "a TLS handshake"}, {"SSH-", "an SSH banner"},
    {"TUTHELLO", "a tutti hello"}, {"TUTI", "a tutti frame"},
};

static const char *protocol_of(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++) {
        size_t length = strlen(protocols[i].start);
        if (size >= length && memcmp(bytes, protocols[i].start, length) == 0)
            return protocols[i].meaning;
    }
    return NULL;
}

const char *wire_describe(const uint8_t *bytes, size_t size, char *text, size_t text_size)
{
    char shown[DESCRIBE_BYTES_MAX * 4 + 1];
    size_t length = 0;
    for (size_t i = 0; i < size && i < DESCRIBE_BYTES_MAX; i++) {
        if (bytes[i] >= ' ' && bytes[i] <= '~' && bytes[i] != '"' && bytes[i] != '\\')
            shown[length++] = (char)bytes[i];
        else
            length += (size_t)snprintf(shown + length, sizeof shown - length, "\\x%02x", bytes[i]);
    }
    shown[length] = '\0';
    const char *protocol = protocol_of(bytes, size);
    snprintf(text, text_size, "\"%s\"%s%s", shown, protocol ? ", which looks like " : "",
             protocol ? protocol : "");
    return text;
}

/* ---- The header -------------------------------------------------------------------------------- */

static uint32_t length_max(int type)
{
    switch (type) {
    case FRAME_DATA:
        return FRAME_DATA_BYTES_MAX;
    case FRAME_CONTROL:
        return FRAME_CONTROL_BYTES_MAX;
    default:
        return 0;
    }
}

static bool frame_type_is_valid(int type)
{
    return type >= FRAME_DATA && type <= FRAME_HEARTBEAT;
}

void frame_encode(const struct frame *frame, uint8_t bytes[FRAME_HEADER_BYTES])
{
    assert(frame_type_is_valid(frame->type));
    assert((frame->flags & ~FRAME_KNOWN_FLAGS) == 0);
    assert(frame->length <= length_max(frame->type));
    put_u32(bytes, FRAME_MAGIC);
    bytes[VERSION_OFFSET] = WIRE_VERSION;
    bytes[5] = frame->type;
    put_u16(bytes + 6, frame->flags);
    put_u16(bytes + 8, frame->channel);
    put_u16(bytes + 10, frame->call.fused);
    put_u32(bytes + 12, frame->generation);
    put_u64(bytes + 16, frame->instance);
    put_u64(bytes + 24, frame->sequence);
    bytes[32] = frame->call.operation;
    bytes[33] = frame->call.type;
    bytes[34] = frame->call.reduction;
    bytes[35] = frame->call.algorithm;
    put_u32(bytes + 36, frame->call.root);
    assert(frame->call.fused == 0 || frame->call.count <= UINT32_MAX);
    put_u64(bytes + 40, frame->call.count | (uint64_t)frame->call.fused_counts << 32);
    put_u32(bytes + 48, frame->step);
    put_u32(bytes + 52, frame->length);
    put_u32(bytes + 56, frame->payload_crc);
    put_u32(bytes + HEADER_CRC_OFFSET, crc32c(0, bytes, HEADER_CRC_OFFSET));
}

/* Magic and version, as far as `size` bytes show them: enough to turn a stranger away before a whole header
 * has come, which from a stranger may never happen. */
static int check_beginning(const uint8_t *bytes, size_t size, struct tutti_error *error)
{
    char text[128];
    if (size >= MAGIC_BYTES && get_u32(bytes) != FRAME_MAGIC)
        return error_set(error, TUTTI_ERR_PROTOCOL,
                         "expected a tutti frame but received %s: something that is not tutti uses this port",
                         wire_describe(bytes, size, text, sizeof text));
    if (size > VERSION_OFFSET && bytes[VERSION_OFFSET] != WIRE_VERSION)
        return error_set(error, TUTTI_ERR_VERSION,
                         "the peer speaks version %d of the wire protocol, this is version %d: install the "
                         "same version of tutti on every host",
                         bytes[VERSION_OFFSET], WIRE_VERSION);
    return TUTTI_OK;
}

static void frame_parse(const uint8_t *bytes, struct frame *frame)
{
    *frame = (struct frame){
        .type = bytes[5],
        .flags = get_u16(bytes + 6),
        .channel = get_u16(bytes + 8),
        .generation = get_u32(bytes + 12),
        .instance = get_u64(bytes + 16),
        .sequence = get_u64(bytes + 24),
        .call = {.operation = bytes[32],
                 .type = bytes[33],
                 .reduction = bytes[34],
                 .algorithm = bytes[35],
                 .root = get_u32(bytes + 36),
                 .count = get_u64(bytes + 40)},
        .step = get_u32(bytes + 48),
        .length = get_u32(bytes + 52),
        .payload_crc = get_u32(bytes + 56),
    };
    frame->call.fused = get_u16(bytes + 10);
    if (frame->call.fused > 0) {
        frame->call.fused_counts = (uint32_t)(frame->call.count >> 32);
        frame->call.count &= UINT32_MAX;
    }
}

int frame_decode(const uint8_t bytes[FRAME_HEADER_BYTES], struct frame *frame, struct tutti_error *error)
{
    int status = check_beginning(bytes, FRAME_HEADER_BYTES, error);
    if (status < 0)
        return status;
    uint32_t crc = crc32c(0, bytes, HEADER_CRC_OFFSET), sent_crc = get_u32(bytes + HEADER_CRC_OFFSET);
    if (crc != sent_crc)
        return error_set(
            error, TUTTI_ERR_PROTOCOL,
            "a frame header arrived damaged: it says CRC-32C %08x but its bytes give %08x; check "
            "memory and network of both hosts",
            (unsigned)sent_crc, (unsigned)crc);
    frame_parse(bytes, frame);
    if (!frame_type_is_valid(frame->type))
        return error_set(error, TUTTI_ERR_PROTOCOL,
                         "a frame has the unknown type %d: the peer runs another build of tutti",
                         frame->type);
    if (frame->length > length_max(frame->type))
        return error_set(error, TUTTI_ERR_PROTOCOL,
                         "a frame of type %d announces %u bytes of payload, at most %u are allowed",
                         frame->type, (unsigned)frame->length, (unsigned)length_max(frame->type));
    if ((frame->flags & ~FRAME_KNOWN_FLAGS) != 0)
        return error_set(error, TUTTI_ERR_PROTOCOL,
                         "a frame has unknown flags %04x: the peer runs another build of tutti",
                         (unsigned)frame->flags);
    return TUTTI_OK;
}

/* ---- Fingerprints ------------------------------------------------------------------------------ */

bool fingerprint_equal(const struct fingerprint *a, const struct fingerprint *b)
{
    return a->operation == b->operation && a->type == b->type && a->reduction == b->reduction &&
           a->algorithm == b->algorithm && a->root == b->root && a->count == b->count &&
           a->fused == b->fused && a->fused_counts == b->fused_counts;
}

/* The name of `value`, or "noun value" where it has none. */
static const char *name_or_number(bool valid, const char *name, const char *noun, int value, char text[32])
{
    if (valid)
        return name;
    snprintf(text, 32, "%s %d", noun, value);
    return text;
}

/* A barrier has no count, so that of finalize differs by its count from the one that a user calls. */
static bool is_finalize(const struct fingerprint *call)
{
    struct fingerprint finalize = {.operation = TUTTI_BARRIER, .count = 1};
    finalize.algorithm = call->algorithm;
    return fingerprint_equal(call, &finalize);
}

const char *fingerprint_name(const struct fingerprint *call)
{
    return is_finalize(call) ? "finalize" : operation_name(call->operation);
}

/* What the field `root` of the fingerprint holds. */
enum root_meaning { ROOT_IS_RANK, ROOT_IS_TAG, ROOT_IS_COUNTS };

static enum root_meaning root_meaning_of(int operation)
{
    if (operation == TUTTI_ALL_GATHER_V || operation == TUTTI_REDUCE_SCATTER_V)
        return ROOT_IS_COUNTS;
    return operation_is_message(operation) ? ROOT_IS_TAG : ROOT_IS_RANK;
}

/* "2048 x float32" and what more the counts say; of a call whose ranks do not all know its count "float32".
 */
static void print_elements(const struct fingerprint *call, char *text, size_t size)
{
    char type_text[32], more[64] = "";
    const char *type =
        name_or_number(type_is_valid(call->type), type_name(call->type), "type", call->type, type_text);
    if (call->fused > 0)
        snprintf(more, sizeof more, " in %u fused calls, counts %08x", (unsigned)call->fused,
                 (unsigned)call->fused_counts);
    else if (root_meaning_of(call->operation) == ROOT_IS_COUNTS)
        snprintf(more, sizeof more, " in all, counts %08x", (unsigned)call->root);
    if (call->count == 0 && operation_has_counts(call->operation) && *more == '\0')
        snprintf(text, size, "%s", type);
    else
        snprintf(text, size, "%llu x %s%s", (unsigned long long)call->count, type, more);
}

/* The next item of a list that is separated by commas. */
static void append(char *list, size_t size, const char *item)
{
    size_t used = strlen(list);
    snprintf(list + used, size - used, "%s%s", used > 0 ? ", " : "", item);
}

const char *fingerprint_print(const struct fingerprint *call, char *text, size_t text_size)
{
    char operation[32], item[128], list[192] = "";
    enum root_meaning root = root_meaning_of(call->operation);
    if (call->reduction != 0)
        append(list, sizeof list,
               name_or_number(reduction_is_valid(call->reduction), reduction_name(call->reduction),
                              "reduction", call->reduction, item));
    /* A root is shown where it has no business too: it may be what differs. */
    if (root == ROOT_IS_RANK && (call->root != 0 || operation_has_root(call->operation))) {
        snprintf(item, sizeof item, "root %u", (unsigned)call->root);
        append(list, sizeof list, item);
    }
    if ((call->type != 0 || call->count != 0 || call->fused != 0 || root == ROOT_IS_COUNTS) &&
        !is_finalize(call)) {
        print_elements(call, item, sizeof item);
        append(list, sizeof list, item);
    }
    if (root == ROOT_IS_TAG) {
        snprintf(item, sizeof item, "tag %u", (unsigned)call->root);
        append(list, sizeof list, item);
    }
    snprintf(text, text_size, "%s(%s)",
             name_or_number(operation_is_valid(call->operation), fingerprint_name(call), "operation",
                            call->operation, operation),
             list);
    return text;
}

/* ---- The reader -------------------------------------------------------------------------------- */

void frame_reader_init(struct frame_reader *reader, uint32_t payload_max)
{
    assert(payload_max <= FRAME_CONTROL_BYTES_MAX);
    reader->payload_max = payload_max;
    reader->have = 0;
    reader->header_done = false;
}

static int reader_header(struct frame_reader *reader, struct tutti_error *error)
{
    int status = frame_decode(reader->buffer, &reader->frame, error);
    if (status < 0)
        return status;
    if (reader->frame.length > reader->payload_max)
        return error_set(error, TUTTI_ERR_PROTOCOL,
                         "a frame announces %u bytes of payload on a connection that takes at most %u",
                         (unsigned)reader->frame.length, (unsigned)reader->payload_max);
    reader->header_done = true;
    return TUTTI_OK;
}

static int reader_payload(const struct frame_reader *reader, struct tutti_error *error)
{
    const struct frame *frame = &reader->frame;
    if (!(frame->flags & FRAME_HAS_PAYLOAD_CRC))
        return TUTTI_OK;
    uint32_t crc = crc32c(0, reader->buffer + FRAME_HEADER_BYTES, frame->length);
    if (crc == frame->payload_crc)
        return TUTTI_OK;
    return error_set(error, TUTTI_ERR_PROTOCOL,
                     "a payload of %u bytes arrived damaged: its header says CRC-32C %08x but its bytes give "
                     "%08x; check memory and network of both hosts",
                     (unsigned)frame->length, (unsigned)frame->payload_crc, (unsigned)crc);
}

int frame_reader_next(struct frame_reader *reader, const uint8_t **bytes, size_t *size,
                      const uint8_t **payload, struct tutti_error *error)
{
    /* The frame that the call before returned is done with. */
    if (reader->header_done && reader->have == FRAME_HEADER_BYTES + reader->frame.length) {
        reader->have = 0;
        reader->header_done = false;
    }
    for (;;) {
        uint32_t whole = FRAME_HEADER_BYTES + (reader->header_done ? reader->frame.length : 0);
        uint32_t missing = whole - reader->have;
        uint32_t eaten = *size < missing ? (uint32_t)*size : missing;
        if (eaten > 0)
            memcpy(reader->buffer + reader->have, *bytes, eaten);
        reader->have += eaten;
        *bytes += eaten;
        *size -= eaten;
        if (reader->have < whole)
            return reader->header_done ? 0 : check_beginning(reader->buffer, reader->have, error);
        if (reader->header_done) {
            *payload = reader->buffer + FRAME_HEADER_BYTES;
            int status = reader_payload(reader, error);
            return status < 0 ? status : 1;
        }
        int status = reader_header(reader, error);
        if (status < 0)
            return status;
    }
}
