/* Memory without a name, and descriptors that travel through a Unix socket. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "transport/descriptor.h"
#include "transport/shared_memory.h"

#define MIB ((size_t)1 << 20)

static size_t allocated(int fd)
{
    struct stat status;
    assert_int_equal(fstat(fd, &status), 0);
    return (size_t)status.st_blocks * 512;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static void check_refused(const struct tutti_error *error, int status, int wanted, const char *word)
{
    assert_int_equal(status, wanted);
    assert_int_equal(error->code, wanted);
    if (!strstr(error->message, word))
        fail_msg("'%s' should contain '%s'", error->message, word);
}

/* ---- Memory -------------------------------------------------------------------------------------- */

static void memory_is_zero_reserved_and_sealed(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 4096, 4097, 300000, 2 * MIB, 5 * MIB + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct tutti_error error;
        int fd = shared_memory_create(sizes[i], false, &error);
        assert_true(fd >= 0);
        assert_true(allocated(fd) >= sizes[i]);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        uint8_t *memory = shared_memory_map(fd, 0, sizes[i], true, &error);
        assert_non_null(memory);
        assert_true(is_zero(memory, sizes[i]));
        memset(memory, 7, sizes[i]);
        assert_int_equal(ftruncate(fd, 0), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(ftruncate(fd, 64 * (off_t)MIB), -1);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
        shared_memory_unmap(memory, sizes[i]);
        descriptor_close(fd);
    }
}

static void two_mappings_are_one_memory_and_one_may_be_for_reading_only(void **state)
{
    (void)state;
    struct tutti_error error;
    int fd = shared_memory_create(3 * MIB, false, &error);
    uint8_t *writer = shared_memory_map(fd, 0, 3 * MIB, true, &error);
    const uint8_t *reader = shared_memory_map(fd, 4096, 3 * MIB - 4096, false, &error);
    descriptor_close(fd); /* the mappings stay */
    assert_true(writer && reader);
    writer[4096] = 1;
    writer[3 * MIB - 1] = 2;
    assert_int_equal(reader[0], 1);
    assert_int_equal(reader[3 * MIB - 4096 - 1], 2);
    assert_int_equal(mprotect((void *)(uintptr_t)reader, 4096, PROT_READ), 0);
    shared_memory_unmap(writer, 3 * MIB);
    shared_memory_unmap((void *)(uintptr_t)reader, 3 * MIB - 4096);
    shared_memory_unmap(NULL, 0);
}

static void memory_that_could_kill_a_process_is_not_mapped(void **state)
{
    (void)state;
    struct tutti_error error;
    int fd = shared_memory_create(8192, false, &error);
    static const struct {
        size_t offset, bytes;
    } beyond[] = {{0, 8193}, {4096, 4097}, {8192, 1}, {4096, SIZE_MAX}, {SIZE_MAX - 4095, 4096}};
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++) {
        assert_false(shared_memory_holds(fd, beyond[i].offset, beyond[i].bytes));
        assert_null(shared_memory_map(fd, beyond[i].offset, beyond[i].bytes, false, &error));
        check_refused(&error, error.code, TUTTI_ERR_PROTOCOL, "sealed against shrinking");
    }
    assert_true(shared_memory_holds(fd, 4096, 4096));
    descriptor_close(fd);

    int unsealed = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING), ends[2];
    assert_int_equal(ftruncate(unsealed, 8192), 0);
    assert_null(shared_memory_map(unsealed, 0, 4096, false, &error));
    close(unsealed);
    assert_int_equal(pipe(ends), 0);
    assert_null(shared_memory_map(ends[0], 0, 4096, false, &error));
    close(ends[0]);
    close(ends[1]);
    assert_null(shared_memory_map(-1, 0, 4096, false, &error));
}

static void growing_memory_is_reserved_in_parts_and_given_back(void **state)
{
    (void)state;
    struct tutti_error error;
    int fd = shared_memory_create(0, true, &error);
    assert_true(fd >= 0);
    assert_int_equal(allocated(fd), 0);
    assert_int_equal(shared_memory_reserve(fd, 2 * MIB, 3 * MIB, &error), TUTTI_OK);
    assert_true(allocated(fd) >= 3 * MIB && allocated(fd) < 5 * MIB);
    assert_int_equal(shared_memory_reserve(fd, 0, 5000, &error), TUTTI_OK); /* before it; no shorter now */
    assert_true(shared_memory_holds(fd, 2 * MIB, 3 * MIB));
    uint8_t *memory = shared_memory_map(fd, 2 * MIB, 3 * MIB, true, &error);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % (2 * MIB), 0); /* in step with the file, for huge pages */
    assert_true(is_zero(memory, 3 * MIB));
    memset(memory, 9, 3 * MIB);
    shared_memory_release(fd, 2 * MIB, 3 * MIB);
    assert_true(allocated(fd) < 1 * MIB);
    assert_int_equal(shared_memory_reserve(fd, 2 * MIB, 3 * MIB, &error), TUTTI_OK);
    assert_true(is_zero(memory, 3 * MIB));
    shared_memory_unmap(memory, 3 * MIB);
    assert_int_equal(ftruncate(fd, 0), -1);
    descriptor_close(fd);
}

/* Where the kernel refuses memory, nothing of the part stays behind. */
static void memory_that_is_not_to_be_had_is_an_error_and_leaves_nothing(void **state)
{
    (void)state;
    struct tutti_error error;
    struct rlimit before, low;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    low = before;
    low.rlim_cur = 6 * MIB;
    signal(SIGXFSZ, SIG_IGN);
    int fd = shared_memory_create(0, true, &error);
    assert_int_equal(shared_memory_reserve(fd, 0, MIB, &error), TUTTI_OK);
    size_t had = allocated(fd);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    int grown = shared_memory_reserve(fd, 4 * MIB, 4 * MIB, &error);
    struct tutti_error grown_error = error;
    int made = shared_memory_create(8 * MIB, false, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    check_refused(&grown_error, grown, TUTTI_ERR_MEMORY, "4194304 bytes");
    check_refused(&error, made, TUTTI_ERR_MEMORY, "8388608 bytes");
    assert_int_equal(allocated(fd), had);
    descriptor_close(fd);
    check_refused(&error, shared_memory_create(SIZE_MAX, false, &error), TUTTI_ERR_MEMORY, "no memory");
    check_refused(&error, shared_memory_create((size_t)1 << 50, false, &error), TUTTI_ERR_MEMORY,
                  "no memory");
}

static void without_descriptors_there_is_no_memory(void **state)
{
    (void)state;
    struct tutti_error error;
    struct rlimit before, low;
    int next = dup(0);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    int fd = shared_memory_create(4096, false, &error);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    check_refused(&error, fd, TUTTI_ERR_SYSTEM, strerror(EMFILE));
}

/* ---- Descriptors --------------------------------------------------------------------------------- */

static int count_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 512; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void open_sockets(int ends[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
}

static void close_both(int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

static void descriptors_travel_beside_their_message(void **state)
{
    (void)state;
    int ends[2], sent[DESCRIPTORS_PASSED_MAX], came[DESCRIPTORS_PASSED_MAX];
    static const int counts[] = {0, 1, 3, DESCRIPTORS_PASSED_MAX};
    open_sockets(ends);
    int before = count_descriptors();
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        char message[10] = "abcdefghi", received[10] = "";
        for (int i = 0; i < counts[c]; i++) {
            sent[i] = memfd_create("test", 0);
            assert_int_equal(write(sent[i], &i, sizeof i), sizeof i);
        }
        assert_int_equal(descriptors_receive(ends[1], received, 10, came, counts[c]), TUTTI_PENDING);
        assert_int_equal(descriptors_send(ends[0], message, 10, sent, counts[c]), TUTTI_OK);
        for (int i = 0; i < counts[c]; i++)
            close(sent[i]); /* they are on their way */
        assert_int_equal(descriptors_receive(ends[1], received, 10, came, counts[c]), TUTTI_OK);
        assert_string_equal(received, message);
        for (int i = 0; i < counts[c]; i++) {
            int number = -1;
            assert_int_equal(pread(came[i], &number, sizeof number, 0), sizeof number);
            assert_int_equal(number, i);
            assert_true(fcntl(came[i], F_GETFD) & FD_CLOEXEC);
            descriptor_close(came[i]);
        }
        assert_int_equal(count_descriptors(), before);
    }
    close_both(ends);
}

static void another_message_than_was_expected_leaves_no_descriptor_behind(void **state)
{
    (void)state;
    static const struct {
        size_t sent_bytes, bytes;
        int sent, count;
    } cases[] = {{8, 8, 2, 1}, {8, 8, 1, 2}, {8, 8, 0, 1}, {8, 8, 1, 0}, {7, 8, 1, 1}, {1, 8, 3, 3}};
    int before = count_descriptors();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int ends[2], fds[3] = {0, 0, 0}, came[3] = {-1, -1, -1};
        char bytes[8] = "";
        open_sockets(ends);
        assert_int_equal(descriptors_send(ends[0], bytes, cases[i].sent_bytes, fds, cases[i].sent), TUTTI_OK);
        assert_int_equal(descriptors_receive(ends[1], bytes, cases[i].bytes, came, cases[i].count), -EPROTO);
        assert_true(came[0] < 0 && came[1] < 0 && came[2] < 0);
        close_both(ends);
        assert_int_equal(count_descriptors(), before);
    }
}

static void a_full_socket_takes_nothing_and_all_later(void **state)
{
    (void)state;
    int ends[2], fds[2] = {0, 1}, came[2];
    char bytes[100] = "";
    int sent = 0, received = 0, status;
    open_sockets(ends);
    while ((status = descriptors_send(ends[0], bytes, sizeof bytes, fds, 2)) == TUTTI_OK)
        assert_true(++sent < 100000);
    assert_int_equal(status, TUTTI_PENDING);
    while (descriptors_receive(ends[1], bytes, sizeof bytes, came, 2) == TUTTI_OK) {
        close(came[0]);
        close(came[1]);
        received++;
    }
    assert_int_equal(received, sent);
    assert_int_equal(descriptors_send(ends[0], bytes, sizeof bytes, fds, 2), TUTTI_OK);
    close_both(ends);
}

static void the_end_of_the_stream_and_wrong_arguments_are_told(void **state)
{
    (void)state;
    int ends[2], fds[1] = {0};
    char bytes[8] = "";
    open_sockets(ends);
    assert_int_equal(descriptors_send(ends[0], bytes, 8, fds, DESCRIPTORS_PASSED_MAX + 1), -EINVAL);
    assert_int_equal(descriptors_send(ends[0], bytes, 0, fds, 1), -EINVAL);
    close(ends[0]);
    assert_int_equal(descriptors_receive(ends[1], bytes, 8, fds, 1), -ECONNRESET);
    assert_int_equal(descriptors_send(ends[1], bytes, 8, fds, 1), -EPIPE); /* and no signal */
    close(ends[1]);
}

static void a_process_that_can_have_no_more_descriptors_says_so(void **state)
{
    (void)state;
    int ends[2], fds[2] = {0, 1}, came[2];
    char bytes[8] = "";
    struct rlimit before, low;
    open_sockets(ends);
    assert_int_equal(descriptors_send(ends[0], bytes, 8, fds, 2), TUTTI_OK);
    int next = dup(0), open_before = count_descriptors() - 1;
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = (rlim_t)next + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    int status = descriptors_receive(ends[1], bytes, 8, came, 2);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(status, -EMFILE);
    assert_int_equal(count_descriptors(), open_before);
    close_both(ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zero_reserved_and_sealed),
        cmocka_unit_test(two_mappings_are_one_memory_and_one_may_be_for_reading_only),
        cmocka_unit_test(memory_that_could_kill_a_process_is_not_mapped),
        cmocka_unit_test(growing_memory_is_reserved_in_parts_and_given_back),
        cmocka_unit_test(memory_that_is_not_to_be_had_is_an_error_and_leaves_nothing),
        cmocka_unit_test(without_descriptors_there_is_no_memory),
        cmocka_unit_test(descriptors_travel_beside_their_message),
        cmocka_unit_test(another_message_than_was_expected_leaves_no_descriptor_behind),
        cmocka_unit_test(a_full_socket_takes_nothing_and_all_later),
        cmocka_unit_test(the_end_of_the_stream_and_wrong_arguments_are_told),
        cmocka_unit_test(a_process_that_can_have_no_more_descriptors_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
