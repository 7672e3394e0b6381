/* How two ends come to a ring or do without one, and what a peer can do that is none of ours: one end is a
 * link, the other the test itself. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include "base/bytes.h"
#include "tests/unit/shm_pair.h"
#include "transport/shared_memory.h"

/* ---- Doing without ------------------------------------------------------------------------------- */

/* What is written to standard error between the two calls. */
static int saved_stderr;

static void catch_stderr(void)
{
    saved_stderr = dup(STDERR_FILENO);
    int fd = memfd_create("stderr", 0);
    assert_true(saved_stderr >= 0 && fd >= 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    close(fd);
}

static void read_stderr(char *text, size_t size)
{
    ssize_t n = pread(STDERR_FILENO, text, size - 1, 0);
    assert_true(n >= 0);
    text[n] = '\0';
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
}

static int count_lines(const char *text)
{
    int lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

/* From now on this process can open `more` descriptors. */
static struct rlimit limit;

static void limit_descriptors(int more)
{
    struct rlimit low;
    int next = dup(0);
    assert_true(next >= 0);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    low.rlim_cur = (rlim_t)(next + more);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
}

static void limit_no_more(void)
{
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Frames go over the socket, at both ends, and are counted; a sleeping end is told by the descriptor. */
static void check_stream(struct shm_pair *pair)
{
    uint64_t total = 0;
    static const uint32_t some[] = {0, 1, 1000, LONG_BYTES};
    for (uint64_t i = 0; i < 4; i++) {
        pair_pass(pair, some[i], i);
        total += FRAME_HEADER_BYTES + some[i];
    }
    assert_int_equal(pair->sender->sent_bytes, total);
    assert_int_equal(pair->receiver->received_bytes, total);
    const struct link *ends[] = {pair->sender, pair->receiver};
    for (int i = 0; i < 2; i++) {
        assert_string_equal(ends[i]->ops->transport, "uds");
        assert_true(ends[i]->ops->arm == NULL);
        assert_int_equal(bytes_in(ends[i]->ops->descriptor(ends[i])), 0);
    }
    struct frame frame;
    struct tutti_error error;
    uint8_t bytes[100] = {0};
    const void *loan;
    assert_int_equal(pair_send(pair, bytes, 100, 8, &error), LINK_DONE);
    assert_int_equal(pair->receiver->ops->peek(pair->receiver, &frame, &error), LINK_DONE);
    assert_int_equal(pair->receiver->ops->recv_loan(pair->receiver, &frame, &loan, 100, &error), LINK_DONE);
    pair->sender->ops->free(pair->sender);
    pair->sender = NULL;
    check_error(&error, pair_recv(pair, &frame, bytes, 100, &error), TUTTI_ERR_PEER_LOST, "closed");
}

static void where_one_end_may_not_share_memory_frames_go_over_the_socket_in_silence(void **state)
{
    (void)state;
    for (int which = 0; which < 3; which++) {
        struct shm_pair pair;
        char text[500];
        int fds[2];
        socket_pair(fds);
        struct shm_link_options out = shm_options(fds[0], true), in = shm_options(fds[1], false);
        struct log log = {.level = LOG_LEVEL_DEBUG, .rank = 2};
        out.log = in.log = &log;
        out.may_share = which == 1;
        in.may_share = which == 2;
        catch_stderr();
        pair.sender = shm_link_new(&out);
        pair.receiver = shm_link_new(&in);
        assert_string_equal(pair.sender->ops->transport, which == 1 ? "shm" : "uds");
        check_stream(&pair);
        read_stderr(text, sizeof text);
        assert_string_equal(text, "");
        pair_close(&pair);
    }
}

static void a_receiver_that_cannot_make_the_ring_says_so_and_uses_the_socket(void **state)
{
    (void)state;
    struct shm_pair pair;
    char text[1000];
    int fds[2];
    socket_pair(fds);
    struct shm_link_options out = shm_options(fds[0], true), in = shm_options(fds[1], false);
    struct log log = {.level = LOG_LEVEL_WARNING, .rank = 2};
    in.log = out.log = &log;
    pair.sender = shm_link_new(&out);
    catch_stderr();
    limit_descriptors(0);
    pair.receiver = shm_link_new(&in);
    limit_no_more();
    assert_string_equal(pair.receiver->ops->transport, "uds");
    check_stream(&pair);
    read_stderr(text, sizeof text);
    assert_int_equal(count_lines(text), 1);
    assert_non_null(strstr(text, "no shared memory for the link from " PEER_TEXT));
    assert_non_null(strstr(text, strerror(EMFILE)));
    pair_close(&pair);
}

static void a_sender_that_cannot_receive_the_ring_says_so_and_uses_the_socket(void **state)
{
    (void)state;
    struct shm_pair pair;
    struct tutti_error error;
    char text[1000];
    int fds[2];
    socket_pair(fds);
    struct shm_link_options out = shm_options(fds[0], true), in = shm_options(fds[1], false);
    struct log log = {.level = LOG_LEVEL_WARNING, .rank = 2};
    in.log = out.log = &log;
    pair.sender = shm_link_new(&out);
    pair.receiver = shm_link_new(&in);
    catch_stderr();
    limit_descriptors(0);
    assert_true(pair.sender->ops->arm(pair.sender)); /* takes the offer, and can go on */
    limit_no_more();
    assert_string_equal(pair.sender->ops->transport, "uds");
    struct frame frame;
    assert_int_equal(pair_recv(&pair, &frame, NULL, 0, &error), LINK_AGAIN);
    assert_false(pair.receiver->ops->arm(pair.receiver));
    check_stream(&pair);
    read_stderr(text, sizeof text);
    assert_int_equal(count_lines(text), 1);
    assert_non_null(strstr(text, "no shared memory for the link to " PEER_TEXT));
    assert_non_null(strstr(text, strerror(EMFILE)));
    pair_close(&pair);
}

#ifdef TUTTI_FAILPOINTS
static void either_end_does_without_where_a_test_takes_its_memory(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        struct shm_pair pair;
        struct failpoints failpoints = {0};
        int fds[2], point = which == 0 ? FAILPOINT_ring_made : FAILPOINT_ring_mapped;
        failpoints.points[point].countdown = 1;
        failpoints.points[point].action = FAIL_no_memory;
        socket_pair(fds);
        struct shm_link_options out = shm_options(fds[0], true), in = shm_options(fds[1], false);
        out.failpoints = in.failpoints = &failpoints;
        pair.sender = shm_link_new(&out);
        pair.receiver = shm_link_new(&in);
        check_stream(&pair);
        assert_int_equal(failpoints.points[point].countdown, 0);
        pair_close(&pair);
    }
}
#endif

/* ---- Peers that are none of ours ----------------------------------------------------------------- */

/* A link, and the test at the other end of its socket. */
struct half {
    struct link *link;
    int fd;
    struct shm_share share;
};

static void open_half(struct half *half, bool is_sender)
{
    int fds[2];
    socket_pair(fds);
    struct shm_link_options options = shm_options(fds[0], is_sender);
    *half = (struct half){.link = shm_link_new(&options), .fd = fds[1]};
    assert_non_null(half->link);
}

/* A link that sends to the test, or the other way round, with the ring of both. */
static void open_attached(struct half *half, bool is_sender)
{
    struct tutti_error error;
    open_half(half, is_sender);
    if (is_sender)
        assert_int_equal(shm_offer_ring(&half->share, half->fd, SLOT_BYTES, NULL, &error), TUTTI_OK);
    else
        assert_int_equal(shm_offer_take(&half->share, half->fd, true, NULL, &error), SHM_OFFER_TAKEN);
}

static void close_half(struct half *half)
{
    half->link->ops->free(half->link);
    shm_share_release(&half->share);
    close(half->fd);
}

static int send_short(const struct half *half, struct tutti_error *error)
{
    uint8_t bytes[8] = {0};
    struct frame frame = data_frame(sizeof bytes, 1, 0);
    *error = (struct tutti_error)TUTTI_ERROR_INIT;
    return half->link->ops->send(half->link, &frame, bytes, error);
}

static int receive_short(const struct half *half, struct tutti_error *error)
{
    uint8_t bytes[8];
    struct frame frame;
    *error = (struct tutti_error)TUTTI_ERROR_INIT;
    return half->link->ops->recv(half->link, &frame, bytes, sizeof bytes, error);
}

static void a_receivers_count_that_cannot_be_is_refused(void **state)
{
    (void)state;
    static const uint64_t counts[] = {SHM_RING_SLOTS + 1, UINT64_MAX, (uint64_t)1 << 32};
    for (size_t i = 0; i < 3; i++) {
        struct half half;
        struct tutti_error error;
        open_attached(&half, true);
        for (int n = 0; n < SHM_RING_SLOTS; n++)
            assert_int_equal(send_short(&half, &error), LINK_DONE);
        atomic_store(&half.share.ring.control->freed, counts[i]);
        assert_true(half.link->ops->arm(half.link));
        check_error(&error, send_short(&half, &error), TUTTI_ERR_PROTOCOL, "a count of slots");
        close_half(&half);
    }
}

static void a_senders_count_that_cannot_be_is_refused(void **state)
{
    (void)state;
    static const uint64_t counts[] = {SHM_RING_SLOTS + 1, UINT64_MAX, (uint64_t)1 << 32};
    for (size_t i = 0; i < 3; i++) {
        struct half half;
        struct tutti_error error;
        open_attached(&half, false);
        assert_int_equal(receive_short(&half, &error), LINK_AGAIN);
        atomic_store(&half.share.ring.control->filled, counts[i]);
        assert_true(half.link->ops->arm(half.link));
        check_error(&error, receive_short(&half, &error), TUTTI_ERR_PROTOCOL, "a count of slots");
        close_half(&half);
    }
}

static void a_count_that_goes_back_is_refused(void **state)
{
    (void)state;
    struct half half;
    struct tutti_error error;
    open_attached(&half, false);
    encode(shm_ring_header(&half.share.ring, 0), 0, 1, 0);
    atomic_store(&half.share.ring.control->filled, 1);
    struct frame frame;
    assert_int_equal(half.link->ops->recv(half.link, &frame, NULL, 0, &error), LINK_DONE);
    atomic_store(&half.share.ring.control->filled, 0);
    check_error(&error, receive_short(&half, &error), TUTTI_ERR_PROTOCOL, "a count of slots");
    close_half(&half);
}

static void a_header_that_is_none_is_refused(void **state)
{
    (void)state;
    struct half half;
    struct tutti_error error;
    open_attached(&half, false);
    memset(shm_ring_header(&half.share.ring, 0), 0x7F, FRAME_HEADER_BYTES);
    atomic_store(&half.share.ring.control->filled, 1);
    check_error(&error, receive_short(&half, &error), TUTTI_ERR_PROTOCOL, "cannot read what " PEER_TEXT);
    close_half(&half);
}

static void a_nonce_that_was_not_given_is_refused(void **state)
{
    (void)state;
    struct half half;
    struct tutti_error error;
    open_attached(&half, false);
    atomic_store(&half.share.ring.control->attached, half.share.nonce + 1);
    check_error(&error, receive_short(&half, &error), TUTTI_ERR_PROTOCOL, "the nonce");
    close_half(&half);
}

static void a_bell_of_a_sender_that_is_not_attached_is_refused(void **state)
{
    (void)state;
    struct half half;
    struct tutti_error error;
    open_half(&half, false);
    assert_int_equal(receive_short(&half, &error), LINK_AGAIN);
    assert_int_equal(write(half.fd, "\1", 1), 1);
    assert_true(half.link->ops->arm(half.link));
    check_error(&error, receive_short(&half, &error), TUTTI_ERR_PROTOCOL, "a bell");
    close_half(&half);
}

static void what_is_no_offer_is_refused(void **state)
{
    (void)state;
    for (int damage = 0; damage < SHM_OFFER_BYTES + 2; damage++) {
        struct half half;
        struct tutti_error error;
        uint8_t offer[SHM_OFFER_BYTES];
        int fds[2];
        socket_pair(fds);
        shm_offer_none(fds[0]);
        assert_int_equal(read(fds[1], offer, sizeof offer), SHM_OFFER_BYTES);
        close(fds[0]);
        close(fds[1]);
        open_half(&half, true);
        size_t size = damage < SHM_OFFER_BYTES ? SHM_OFFER_BYTES : damage - SHM_OFFER_BYTES == 0 ? 1 : 31;
        offer[damage % SHM_OFFER_BYTES] ^= 1;
        assert_int_equal(write(half.fd, offer, size), (ssize_t)size);
        check_error(&error, send_short(&half, &error), TUTTI_ERR_PROTOCOL, "the offer");
        close_half(&half);
    }
}

static void a_peer_that_goes_before_it_has_offered_or_attached_is_lost(void **state)
{
    (void)state;
    for (int is_sender = 0; is_sender < 2; is_sender++) {
        struct half half;
        struct tutti_error error;
        open_half(&half, is_sender);
        assert_int_equal(is_sender ? send_short(&half, &error) : receive_short(&half, &error), LINK_AGAIN);
        assert_false(half.link->ops->arm(half.link));
        shutdown(half.fd, SHUT_RDWR);
        assert_true(half.link->ops->arm(half.link));
        check_error(&error, is_sender ? send_short(&half, &error) : receive_short(&half, &error),
                    TUTTI_ERR_PEER_LOST, "it was closed there");
        close_half(&half);
    }
}

/* An offer of memory that the test has made: which of it is wrong? */
enum wrong { WRONG_SEAL, WRONG_LENGTH, WRONG_MAGIC, WRONG_NONCE, WRONG_NUMBER, WRONGS };

static void offer_memory(int socket_fd, enum wrong wrong)
{
    uint8_t offer[SHM_OFFER_BYTES] = "TUTS\1\1";
    size_t bytes = shm_ring_bytes(SHM_RING_SLOTS, SLOT_BYTES) - (wrong == WRONG_LENGTH ? 4096 : 0);
    int fds[2] = {memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING), socket_fd};
    assert_true(fds[0] >= 0);
    assert_int_equal(ftruncate(fds[0], (off_t)bytes), 0);
    const struct shm_ring_control control = {
        .magic = SHM_RING_MAGIC + (wrong == WRONG_MAGIC),
        .nonce = 77 + (wrong == WRONG_NONCE),
    };
    assert_int_equal(pwrite(fds[0], &control, 16, 0), 16);
    if (wrong != WRONG_SEAL)
        assert_int_equal(fcntl(fds[0], F_ADD_SEALS, F_SEAL_SHRINK), 0);
    put_u16(offer + 6, SHM_RING_SLOTS);
    put_u32(offer + 8, SLOT_BYTES);
    put_u64(offer + 16, 77);
    put_u32(offer + 28, crc32c(0, offer, 28));
    assert_int_equal(descriptors_send(socket_fd, offer, sizeof offer, fds, wrong == WRONG_NUMBER ? 2 : 1), 0);
    close(fds[0]);
}

static void memory_that_is_not_as_it_was_offered_is_not_used(void **state)
{
    (void)state;
    for (enum wrong wrong = 0; wrong <= WRONGS; wrong++) {
        struct half half;
        struct tutti_error error;
        uint8_t bytes[200];
        open_half(&half, true);
        offer_memory(half.fd, wrong);
        assert_int_equal(send_short(&half, &error), LINK_DONE);
        bool is_right = wrong == WRONGS; /* the test's offers are good but for what is wrong */
        assert_string_equal(half.link->ops->transport, is_right ? "shm" : "uds");
        assert_int_equal(recv(half.fd, bytes, sizeof bytes, MSG_DONTWAIT),
                         is_right ? -1 : FRAME_HEADER_BYTES + 8);
        close_half(&half);
    }
}

static void an_offer_whose_reserved_bytes_are_used_is_refused(void **state)
{
    (void)state;
    for (size_t at = 12; at <= 24; at += 12) {
        struct half half;
        struct tutti_error error;
        uint8_t offer[SHM_OFFER_BYTES] = "TUTS\1";
        open_half(&half, true);
        offer[at + 3] = 1;
        put_u32(offer + 28, crc32c(0, offer, 28));
        assert_int_equal(write(half.fd, offer, sizeof offer), SHM_OFFER_BYTES);
        check_error(&error, send_short(&half, &error), TUTTI_ERR_PROTOCOL, "the offer");
        close_half(&half);
    }
}

static void a_ring_of_impossible_shape_is_refused(void **state)
{
    (void)state;
    static const struct {
        uint32_t slots, bytes;
    } shapes[] = {{0, 4096}, {1, 4096}, {33, 4096},   {4, 0},
                  {4, 4095}, {4, 4097}, {4, 2 << 20}, {4, UINT32_MAX}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct half half;
        struct tutti_error error;
        uint8_t offer[SHM_OFFER_BYTES] = "TUTS\1\1";
        open_half(&half, true);
        put_u16(offer + 6, (uint16_t)shapes[i].slots);
        put_u32(offer + 8, shapes[i].bytes);
        put_u64(offer + 16, 77);
        put_u32(offer + 28, crc32c(0, offer, 28));
        assert_int_equal(write(half.fd, offer, sizeof offer), SHM_OFFER_BYTES);
        check_error(&error, send_short(&half, &error), TUTTI_ERR_PROTOCOL, "the offer");
        close_half(&half);
    }
}

static int count_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void a_link_has_one_descriptor_while_it_lives_and_none_after(void **state)
{
    (void)state;
    struct shm_pair pair;
    int before = count_descriptors();
    pair_open(&pair);
    pair_pass(&pair, 10, 1);
    assert_int_equal(count_descriptors(), before + 2);
    pair_close(&pair);
    pair_open(&pair); /* and when the offer was never looked at */
    pair_close(&pair);
    assert_int_equal(count_descriptors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_one_end_may_not_share_memory_frames_go_over_the_socket_in_silence),
        cmocka_unit_test(a_receiver_that_cannot_make_the_ring_says_so_and_uses_the_socket),
        cmocka_unit_test(a_sender_that_cannot_receive_the_ring_says_so_and_uses_the_socket),
#ifdef TUTTI_FAILPOINTS
        cmocka_unit_test(either_end_does_without_where_a_test_takes_its_memory),
#endif
        cmocka_unit_test(a_receivers_count_that_cannot_be_is_refused),
        cmocka_unit_test(a_senders_count_that_cannot_be_is_refused),
        cmocka_unit_test(a_count_that_goes_back_is_refused),
        cmocka_unit_test(a_header_that_is_none_is_refused),
        cmocka_unit_test(a_nonce_that_was_not_given_is_refused),
        cmocka_unit_test(a_bell_of_a_sender_that_is_not_attached_is_refused),
        cmocka_unit_test(what_is_no_offer_is_refused),
        cmocka_unit_test(a_peer_that_goes_before_it_has_offered_or_attached_is_lost),
        cmocka_unit_test(memory_that_is_not_as_it_was_offered_is_not_used),
        cmocka_unit_test(an_offer_whose_reserved_bytes_are_used_is_refused),
        cmocka_unit_test(a_ring_of_impossible_shape_is_refused),
        cmocka_unit_test(a_link_has_one_descriptor_while_it_lives_and_none_after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
