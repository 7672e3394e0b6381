#include "transport/shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/error.h"
#include "transport/descriptor.h"

#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_COLLAPSE /* Linux 6.1 */
#define MADV_COLLAPSE 25
#endif

/* What one processor page table entry of the second level covers, on x86-64 and with 4 KiB pages on Arm. */
#define HUGE_PAGE_BYTES ((size_t)2 << 20)

#define BYTES_MAX ((size_t)PTRDIFF_MAX / 4) /* beyond, sums could overflow */
#define ASKED_MAX ((size_t)16 << 20)        /* up to which nobody asks how much there is */

/* ---- Memory ------------------------------------------------------------------------------------ */

static size_t round_up(size_t bytes, size_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* An address that has the same place in its huge page as `offset` has in the file; else the processor could
 * not map huge pages as such.  MAP_FAILED and errno. */
static void *map_in_step(int fd, size_t offset, size_t bytes, int protection)
{
    if (bytes < HUGE_PAGE_BYTES)
        return mmap(NULL, bytes, protection, MAP_SHARED, fd, (off_t)offset);
    size_t length = round_up(bytes, page_bytes());
    uint8_t *room =
        mmap(NULL, length + HUGE_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return MAP_FAILED;
    size_t before = (offset - (uintptr_t)room) % HUGE_PAGE_BYTES;
    void *memory = mmap(room + before, length, protection, MAP_SHARED | MAP_FIXED, fd, (off_t)offset);
    if (memory == MAP_FAILED) {
        int error_number = errno;
        munmap(room, length + HUGE_PAGE_BYTES);
        errno = error_number;
        return MAP_FAILED;
    }
    if (before > 0)
        munmap(room, before);
    munmap(room + before + length, HUGE_PAGE_BYTES - before);
    return memory;
}

/* 0 or an errno.  In pieces, since a signal makes fallocate() start anew. */
static int allocate(int fd, size_t offset, size_t bytes)
{
    while (bytes > 0) {
        size_t piece = bytes < HUGE_PAGE_BYTES ? bytes : HUGE_PAGE_BYTES;
        if (fallocate(fd, 0, (off_t)offset, (off_t)piece) == 0) {
            offset += piece;
            bytes -= piece;
        } else if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

/* Where the kernel gives no huge pages by itself it often does when asked to collapse small ones, of which
 * one in each suffices.  What it refuses is allocated in small pages afterwards. */
static void ask_for_huge_pages(int fd, size_t offset, size_t bytes)
{
    size_t begin = round_up(offset, HUGE_PAGE_BYTES);
    size_t end = (offset + bytes) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    if (begin >= end)
        return;
    void *memory = map_in_step(fd, begin, end - begin, PROT_READ | PROT_WRITE);
    if (memory == MAP_FAILED)
        return;
    madvise(memory, end - begin, MADV_HUGEPAGE);
    size_t page = page_bytes();
    for (size_t at = begin; at < end && allocate(fd, at, page) == 0;)
        at += HUGE_PAGE_BYTES;
    madvise(memory, end - begin, MADV_COLLAPSE);
    munmap(memory, end - begin);
}

static int refuse(int error_number, size_t bytes, struct tutti_error *error)
{
    if (error_number == ENOMEM || error_number == ENOSPC || error_number == EFBIG)
        return error_set(error, TUTTI_ERR_MEMORY, "no memory for %zu bytes that processes share", bytes);
    return error_set_errno(error, error_number, "cannot make %zu bytes of memory that processes share",
                           bytes);
}

/* What the kernel believes can be had without swapping. */
static size_t available_bytes(void)
{
    size_t kib = SIZE_MAX / 1024;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "MemAvailable: %zu kB", &kib) != 1)
        continue;
    if (file)
        fclose(file);
    return kib * 1024;
}

/* 0 or an errno.  More than there is must be refused here: the kernel would take it from others, by force. */
static int reserve(int fd, size_t offset, size_t bytes)
{
    if (bytes > ASKED_MAX && bytes > available_bytes())
        return ENOMEM;
    size_t page = page_bytes(), end = round_up(offset + bytes, page);
    int error_number = allocate(fd, end - page, page); /* now the file is as long as it must be */
    if (error_number == 0) {
        ask_for_huge_pages(fd, offset, end - offset);
        error_number = allocate(fd, offset, end - offset);
    }
    return error_number;
}

int shared_memory_create(size_t bytes, bool grows, struct tutti_error *error)
{
    if (bytes > BYTES_MAX)
        return refuse(ENOMEM, bytes, error);
    int fd = memfd_create("tutti", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("tutti", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return refuse(errno, bytes, error);
    descriptor_note(fd);
    int error_number = bytes > 0 ? reserve(fd, 0, bytes) : 0;
    /* The last seal keeps a peer from adding others, against growing or writing. */
    int seals = F_SEAL_SHRINK | F_SEAL_SEAL | (grows ? 0 : F_SEAL_GROW);
    if (error_number == 0 && fcntl(fd, F_ADD_SEALS, seals) < 0)
        error_number = errno;
    if (error_number == 0)
        return fd;
    descriptor_close(fd);
    return refuse(error_number, bytes, error);
}

int shared_memory_reserve(int fd, size_t offset, size_t bytes, struct tutti_error *error)
{
    int error_number = bytes > BYTES_MAX || offset > BYTES_MAX ? ENOMEM : reserve(fd, offset, bytes);
    if (error_number == 0)
        return TUTTI_OK;
    shared_memory_release(fd, offset, bytes);
    return refuse(error_number, bytes, error);
}

void shared_memory_release(int fd, size_t offset, size_t bytes)
{
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
}

bool shared_memory_holds(int fd, size_t offset, size_t bytes)
{
    struct stat status;
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && fstat(fd, &status) == 0 &&
           bytes <= (uint64_t)status.st_size && offset <= (uint64_t)status.st_size - bytes;
}

void *shared_memory_map(int fd, size_t offset, size_t bytes, bool writable, struct tutti_error *error)
{
    if (!shared_memory_holds(fd, offset, bytes)) {
        error_set(error, TUTTI_ERR_PROTOCOL,
                  "what should be shared memory has no %zu bytes at %zu, or is not sealed against shrinking",
                  bytes, offset);
        return NULL;
    }
    void *memory = map_in_step(fd, offset, bytes, PROT_READ | (writable ? PROT_WRITE : 0));
    if (memory == MAP_FAILED) {
        error_set_errno(error, errno, "cannot map %zu bytes of shared memory", bytes);
        return NULL;
    }
    /* Both are favours: the pages are there, so entering them all at once costs less than a fault for each.
     */
    madvise(memory, bytes, MADV_HUGEPAGE);
    madvise(memory, bytes, MADV_POPULATE_READ);
    return memory;
}

void shared_memory_unmap(void *memory, size_t bytes)
{
    if (memory)
        munmap(memory, bytes);
}

/* ---- Descriptors ------------------------------------------------------------------------------- */

/* Room for the control message, aligned as its header needs. */
union control {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(DESCRIPTORS_PASSED_MAX * sizeof(int))];
};

int descriptors_send(int socket_fd, const void *bytes, size_t size, const int *fds, int count)
{
    if (count < 0 || count > DESCRIPTORS_PASSED_MAX || size == 0)
        return -EINVAL;
    union control control;
    struct iovec whole = {(void *)bytes, size};
    struct msghdr message = {.msg_iov = &whole, .msg_iovlen = 1};
    if (count > 0) {
        size_t fds_bytes = (size_t)count * sizeof *fds;
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(fds_bytes);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fds_bytes);
        memcpy(CMSG_DATA(header), fds, fds_bytes);
    }
    ssize_t sent;
    do {
        sent = sendmsg(socket_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? TUTTI_PENDING : -errno;
    return (size_t)sent == size ? TUTTI_OK : -EMSGSIZE;
}

/* Those that came with the message, at most DESCRIPTORS_PASSED_MAX; how many. */
static int take_descriptors(struct msghdr *message, int *fds)
{
    int count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t bytes = header->cmsg_len - CMSG_LEN(0);
        memcpy(fds + count, CMSG_DATA(header), bytes);
        count += (int)(bytes / sizeof *fds);
    }
    return count;
}

int descriptors_receive(int socket_fd, void *bytes, size_t size, int *fds, int count)
{
    union control control;
    struct iovec whole = {bytes, size};
    struct msghdr message = {
        .msg_iov = &whole,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    ssize_t received;
    do {
        received = recvmsg(socket_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (received < 0 && errno == EINTR);
    if (received < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? TUTTI_PENDING : -errno;
    int came[DESCRIPTORS_PASSED_MAX];
    int came_count = take_descriptors(&message, came);
    if ((size_t)received == size && came_count == count) {
        for (int i = 0; i < count; i++) {
            descriptor_note(came[i]);
            fds[i] = came[i];
        }
        return TUTTI_OK;
    }
    for (int i = 0; i < came_count; i++)
        close(came[i]);
    if (received == 0)
        return -ECONNRESET;
    /* The control message was cut though there was room: this process can have no more descriptors. */
    bool cut = (message.msg_flags & MSG_CTRUNC) != 0 && came_count < count;
    return cut ? -EMFILE : -EPROTO;
}
