#include "wire/hello.h"

#include <assert.h>
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "wire/frame.h"

#define HELLO_MAGIC       "TUTHELLO"
#define HELLO_MAGIC_BYTES 8
#define HELLO_CRC_OFFSET  124

static bool role_is_valid(int role)
{
    return role >= HELLO_DATA && role <= HELLO_ARENA;
}

void hello_encode(const struct hello *hello, uint8_t bytes[HELLO_BYTES])
{
    assert(role_is_valid(hello->role));
    assert(hello->verdict <= HELLO_UNWANTED);
    memcpy(bytes, HELLO_MAGIC, HELLO_MAGIC_BYTES);
    bytes[8] = WIRE_VERSION;
    bytes[9] = hello->role;
    bytes[10] = hello->verdict;
    bytes[11] = 0;
    put_u16(bytes + 12, hello->channel);
    put_u16(bytes + 14, 0);
    put_u64(bytes + 16, hello->instance);
    put_u32(bytes + 24, hello->generation);
    put_u32(bytes + 28, hello->from);
    put_u32(bytes + 32, hello->to);
    put_u32(bytes + 36, 0);
    memcpy(bytes + 40, hello->member_id, sizeof hello->member_id);
    memcpy(bytes + 56, hello->nonce, sizeof hello->nonce);
    memcpy(bytes + 88, hello->code, sizeof hello->code);
    put_u32(bytes + 120, 0);
    put_u32(bytes + HELLO_CRC_OFFSET, crc32c(0, bytes, HELLO_CRC_OFFSET));
}

static void hello_parse(const uint8_t *bytes, struct hello *hello)
{
    *hello = (struct hello){
        .role = bytes[9],
        .verdict = bytes[10],
        .channel = get_u16(bytes + 12),
        .instance = get_u64(bytes + 16),
        .generation = get_u32(bytes + 24),
        .from = get_u32(bytes + 28),
        .to = get_u32(bytes + 32),
    };
    memcpy(hello->member_id, bytes + 40, sizeof hello->member_id);
    memcpy(hello->nonce, bytes + 56, sizeof hello->nonce);
    memcpy(hello->code, bytes + 88, sizeof hello->code);
}

int hello_decode(const uint8_t bytes[HELLO_BYTES], struct hello *hello, struct tutti_error *error)
{
    char text[128];
    if (memcmp(bytes, HELLO_MAGIC, HELLO_MAGIC_BYTES) != 0)
        return error_set(
            error, TUTTI_ERR_PROTOCOL,
            "expected a tutti hello but received %s: something that is not a ring neighbour uses "
            "this port",
            wire_describe(bytes, HELLO_BYTES, text, sizeof text));
    if (bytes[8] != WIRE_VERSION)
        return error_set(
            error, TUTTI_ERR_VERSION,
            "the peer's hello speaks version %d of the wire protocol, this is version %d: install "
            "the same version of tutti on every host",
            bytes[8], WIRE_VERSION);
    uint32_t crc = crc32c(0, bytes, HELLO_CRC_OFFSET), sent_crc = get_u32(bytes + HELLO_CRC_OFFSET);
    if (crc != sent_crc)
        return error_set(
            error, TUTTI_ERR_PROTOCOL,
            "a hello arrived damaged: it says CRC-32C %08x but its bytes give %08x; check memory "
            "and network of both hosts",
            (unsigned)sent_crc, (unsigned)crc);
    hello_parse(bytes, hello);
    if (!role_is_valid(hello->role) || hello->verdict > HELLO_UNWANTED)
        return error_set(
            error, TUTTI_ERR_PROTOCOL,
            "a hello has the unknown role %d or verdict %d: the peer runs another build of tutti",
            hello->role, hello->verdict);
    if (bytes[11] != 0 || get_u16(bytes + 14) != 0 || get_u32(bytes + 36) != 0 || get_u32(bytes + 120) != 0)
        return error_set(
            error, TUTTI_ERR_PROTOCOL,
            "a hello has reserved bytes that are not zero: the peer runs another build of tutti");
    return TUTTI_OK;
}

const char *hello_verdict_text(int verdict)
{
    switch (verdict) {
    case HELLO_ACCEPTED:
        return "accepted";
    case HELLO_WRONG_GROUP:
        return "it belongs to another group or generation";
    case HELLO_WRONG_RANK:
        return "it is another rank than the one that was called";
    case HELLO_UNWANTED:
        return "it does not expect this connection";
    default:
        return "unknown verdict";
    }
}
