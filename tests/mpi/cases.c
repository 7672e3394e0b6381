#include "oracle.h"

#include <stdlib.h>
#include <string.h>

/* ---- A case ------------------------------------------------------------------------------------------ */

static size_t total_of(const struct oracle *o)
{
    size_t total = 0;
    for (int r = 0; r < o->size; r++)
        total += o->counts[r];
    return total;
}

/* Parts of different lengths, some empty; in every second case they lie in the reverse order. */
static void lay_out_parts(struct oracle *o)
{
    bool reversed = o->input.number % 2 == 1;
    for (int r = 0; r < o->size; r++)
        o->counts[r] = r % 3 == 2 ? o->count / 3 : r % 3 == 1 ? o->count + (size_t)r : o->count;
    for (int i = 0, at = 0; i < o->size; i++) {
        int r = reversed ? o->size - 1 - i : i;
        o->offsets[r] = (size_t)at;
        at += (int)o->counts[r];
    }
}

static void *allocate_symmetric(const struct oracle *o, size_t bytes)
{
    void *memory;
    expect(o, tutti_alloc(o->comm, bytes, &memory));
    return memory;
}

static void begin_case(struct oracle *o, const char *operation, enum tutti_type type,
                       enum tutti_reduction reduction, enum input_kind kind, size_t count, bool in_place)
{
    o->operation = operation;
    o->input.number++;
    o->input.kind = kind;
    o->input.type = type;
    o->input.reduction = reduction;
    o->count = count;
    o->in_place = in_place;
    o->root = (int)(o->input.number % (uint64_t)o->size);
    lay_out_parts(o);
    size_t bytes = ((count + RANKS_MAX) * (size_t)o->size + 1) * tutti_type_size(type);
    o->send = o->symmetric ? allocate_symmetric(o, bytes) : allocate(bytes);
    o->recv = o->symmetric ? allocate_symmetric(o, bytes) : allocate(bytes);
    memset(o->recv, 0x5a, bytes);
}

static void end_case(struct oracle *o)
{
    unsigned char *buffers[] = {o->send, o->recv};
    for (int i = 0; i < 2; i++)
        if (o->symmetric)
            expect(o, tutti_dealloc(buffers[i]));
        else
            free(buffers[i]);
}

static size_t element_bytes(const struct oracle *o)
{
    return tutti_type_size(o->input.type);
}

static void run(const struct oracle *o, struct tutti_call call)
{
    tutti_request *request;
    call.count = o->count;
    call.type = o->input.type;
    call.reduction = o->input.reduction;
    call.root = o->root;
    call.factor = input_factor(o->rank);
    expect(o, tutti_run(o->comm, &call, 1, -1, &request));
}

/* MPI counts in int; here in bytes, since it only moves them. */
static void to_bytes(const struct oracle *o, const size_t *elements, int *bytes)
{
    for (int r = 0; r < o->size; r++)
        bytes[r] = (int)(elements[r] * element_bytes(o));
}

/* ---- Reductions ---------------------------------------------------------------------------------- */

static void case_all_reduce(struct oracle *o)
{
    unsigned char *from = o->in_place ? o->recv : o->send;
    input_fill(&o->input, o->rank, 0, o->count, from);
    run(o, (struct tutti_call){.op = TUTTI_ALL_REDUCE, .send = from, .recv = o->recv});
    compare_whole(o, o->recv);
    same_bits_everywhere(o, o->recv, o->count * element_bytes(o));
}

static void case_reduce(struct oracle *o)
{
    bool is_root = o->rank == o->root;
    unsigned char *from = o->in_place && is_root ? o->recv : o->send;
    input_fill(&o->input, o->rank, 0, o->count, from);
    run(o, (struct tutti_call){.op = TUTTI_REDUCE, .send = from, .recv = is_root ? o->recv : NULL});
    compare_whole(o, is_root ? o->recv : NULL);
}

static void case_reduce_scatter(struct oracle *o)
{
    size_t begins[RANKS_MAX], counts[RANKS_MAX];
    for (int r = 0; r < o->size; r++) {
        begins[r] = (size_t)r * o->count;
        counts[r] = o->count;
    }
    unsigned char *to = o->in_place ? o->send + begins[o->rank] * element_bytes(o) : o->recv;
    input_fill(&o->input, o->rank, 0, o->count * (size_t)o->size, o->send);
    run(o, (struct tutti_call){.op = TUTTI_REDUCE_SCATTER, .send = o->send, .recv = to});
    compare_reduced(o, begins, counts, to);
}

static void case_reduce_scatter_v(struct oracle *o)
{
    size_t begins[RANKS_MAX], at = 0;
    for (int r = 0; r < o->size; r++) { /* one after the other */
        begins[r] = at;
        at += o->counts[r];
    }
    unsigned char *to = o->in_place ? o->send + begins[o->rank] * element_bytes(o) : o->recv;
    input_fill(&o->input, o->rank, 0, at, o->send);
    run(o, (struct tutti_call){
               .op = TUTTI_REDUCE_SCATTER_V, .send = o->send, .recv = to, .send_counts = o->counts});
    compare_reduced(o, begins, o->counts, to);
}

void test_reductions(struct oracle *o, enum tutti_type type, size_t count)
{
    static const struct {
        const char *name;
        void (*run)(struct oracle *o);
    } cases[] = {{"all_reduce", case_all_reduce},
                 {"reduce", case_reduce},
                 {"reduce_scatter", case_reduce_scatter},
                 {"reduce_scatter_v", case_reduce_scatter_v}};
    for (enum tutti_reduction r = TUTTI_SUM; r <= TUTTI_PREMULTIPLIED_SUM; r++) {
        bool is_float = format_of(type)->exponent_bits != 0;
        /* Beside infinities and NaN a product of complex numbers is what its formula makes of them. */
        bool plain = !is_float || (type == TUTTI_COMPLEX64 && r == TUTTI_PRODUCT);
        for (enum input_kind kind = INPUT_PLAIN; kind <= (plain ? INPUT_PLAIN : INPUT_NAN); kind++)
            for (int i = 0; format_takes(format_of(type), r) && i < 8; i++) {
                begin_case(o, cases[i / 2].name, type, r, kind, count, i % 2 == 1);
                cases[i / 2].run(o);
                end_case(o);
            }
    }
}

/* ---- Moves --------------------------------------------------------------------------------------- */

static void case_broadcast(struct oracle *o)
{
    size_t bytes = o->count * element_bytes(o);
    unsigned char *from = o->in_place ? o->recv : o->send, *expected = allocate(bytes);
    input_fill(&o->input, o->rank, 0, o->count, from);
    input_fill(&o->input, o->rank, 0, o->count, expected);
    run(o, (struct tutti_call){.op = TUTTI_BROADCAST, .send = from, .recv = o->recv});
    MPI_Bcast(expected, (int)bytes, MPI_BYTE, o->root, o->mpi);
    compare_moved(o, o->recv, expected, bytes);
    same_bits_everywhere(o, o->recv, bytes);
    free(expected);
}

/* gather, all_gather, and both with parts of different lengths. */
static void gather(struct oracle *o, enum tutti_operation op)
{
    bool has_counts = op == TUTTI_GATHER_V || op == TUTTI_ALL_GATHER_V;
    bool everywhere = op == TUTTI_ALL_GATHER || op == TUTTI_ALL_GATHER_V;
    bool receives = everywhere || o->rank == o->root;
    int counts[RANKS_MAX], offsets[RANKS_MAX];
    if (!has_counts)
        for (int r = 0; r < o->size; r++) {
            o->counts[r] = o->count;
            o->offsets[r] = (size_t)r * o->count;
        }
    to_bytes(o, o->counts, counts);
    to_bytes(o, o->offsets, offsets);
    size_t all = total_of(o) * element_bytes(o), own = o->counts[o->rank];
    unsigned char *mine = allocate((size_t)counts[o->rank]), *expected = allocate(all);
    unsigned char *from = o->in_place && receives ? o->recv + offsets[o->rank] : o->send;
    input_fill(&o->input, o->rank, 0, own, from);
    input_fill(&o->input, o->rank, 0, own, mine);
    o->count = own;
    run(o, (struct tutti_call){.op = op,
                               .send = from,
                               .recv = receives ? o->recv : NULL,
                               .recv_counts = has_counts && receives ? o->counts : NULL,
                               .recv_offsets = has_counts && receives ? o->offsets : NULL});
    if (everywhere)
        MPI_Allgatherv(mine, counts[o->rank], MPI_BYTE, expected, counts, offsets, MPI_BYTE, o->mpi);
    else
        MPI_Gatherv(mine, counts[o->rank], MPI_BYTE, expected, counts, offsets, MPI_BYTE, o->root, o->mpi);
    compare_moved(o, o->recv, expected, receives ? all : 0);
    if (everywhere)
        same_bits_everywhere(o, o->recv, all);
    free(mine);
    free(expected);
}

static void case_all_gather(struct oracle *o)
{
    gather(o, TUTTI_ALL_GATHER);
}

static void case_gather(struct oracle *o)
{
    gather(o, TUTTI_GATHER);
}

static void case_all_gather_v(struct oracle *o)
{
    gather(o, TUTTI_ALL_GATHER_V);
}

static void case_gather_v(struct oracle *o)
{
    gather(o, TUTTI_GATHER_V);
}

static void scatter(struct oracle *o, enum tutti_operation op)
{
    bool is_root = o->rank == o->root, has_counts = op == TUTTI_SCATTER_V;
    int counts[RANKS_MAX], offsets[RANKS_MAX];
    if (!has_counts)
        for (int r = 0; r < o->size; r++) {
            o->counts[r] = o->count;
            o->offsets[r] = (size_t)r * o->count;
        }
    to_bytes(o, o->counts, counts);
    to_bytes(o, o->offsets, offsets);
    input_fill(&o->input, o->rank, 0, total_of(o), o->send);
    unsigned char *to = o->in_place && is_root ? o->send + offsets[o->rank] : o->recv;
    unsigned char *expected = allocate((size_t)counts[o->rank]);
    o->count = o->counts[o->rank];
    run(o, (struct tutti_call){.op = op,
                               .send = is_root ? o->send : NULL,
                               .recv = to,
                               .send_counts = has_counts && is_root ? o->counts : NULL,
                               .send_offsets = has_counts && is_root ? o->offsets : NULL});
    MPI_Scatterv(o->send, counts, offsets, MPI_BYTE, expected, counts[o->rank], MPI_BYTE, o->root, o->mpi);
    compare_moved(o, to, expected, (size_t)counts[o->rank]);
    free(expected);
}

static void case_scatter(struct oracle *o)
{
    scatter(o, TUTTI_SCATTER);
}

static void case_scatter_v(struct oracle *o)
{
    scatter(o, TUTTI_SCATTER_V);
}

static void case_all_to_all(struct oracle *o)
{
    size_t bytes = o->count * element_bytes(o), all = bytes * (size_t)o->size;
    unsigned char *from = o->in_place ? o->recv : o->send;
    unsigned char *mine = allocate(all), *expected = allocate(all);
    input_fill(&o->input, o->rank, 0, o->count * (size_t)o->size, from);
    input_fill(&o->input, o->rank, 0, o->count * (size_t)o->size, mine);
    run(o, (struct tutti_call){.op = TUTTI_ALL_TO_ALL, .send = from, .recv = o->recv});
    MPI_Alltoall(mine, (int)bytes, MPI_BYTE, expected, (int)bytes, MPI_BYTE, o->mpi);
    compare_moved(o, o->recv, expected, all);
    free(mine);
    free(expected);
}

/* What rank s sends to rank r is as long as the part of rank (s + r) % size: symmetric, so that one array
 * says both. */
static void case_all_to_all_v(struct oracle *o)
{
    size_t pairs[RANKS_MAX], begins[RANKS_MAX], at = 0;
    int counts[RANKS_MAX], offsets[RANKS_MAX];
    for (int r = 0; r < o->size; r++) {
        pairs[r] = o->counts[(o->rank + r) % o->size];
        begins[r] = at;
        at += pairs[r];
    }
    to_bytes(o, pairs, counts);
    to_bytes(o, begins, offsets);
    unsigned char *expected = allocate(at * element_bytes(o));
    input_fill(&o->input, o->rank, 0, at, o->send);
    run(o, (struct tutti_call){.op = TUTTI_ALL_TO_ALL_V,
                               .send = o->send,
                               .recv = o->recv,
                               .send_counts = pairs,
                               .recv_counts = pairs,
                               .recv_offsets = begins});
    MPI_Alltoallv(o->send, counts, offsets, MPI_BYTE, expected, counts, offsets, MPI_BYTE, o->mpi);
    compare_moved(o, o->recv, expected, at * element_bytes(o));
    free(expected);
}

/* Each rank to the next. */
static void case_message(struct oracle *o)
{
    size_t bytes = o->count * element_bytes(o);
    int next = (o->rank + 1) % o->size, previous = (o->rank + o->size - 1) % o->size;
    unsigned char *expected = allocate(bytes);
    struct tutti_call calls[2] = {{.op = TUTTI_SEND, .send = o->send, .peer = next, .tag = 1},
                                  {.op = TUTTI_RECV, .recv = o->recv, .peer = previous, .tag = 1}};
    tutti_request *request;
    for (int i = 0; i < 2; i++) {
        calls[i].count = o->count;
        calls[i].type = o->input.type;
    }
    input_fill(&o->input, o->rank, 0, o->count, o->send);
    expect(o, tutti_run(o->comm, calls, 2, -1, &request));
    MPI_Sendrecv(o->send, (int)bytes, MPI_BYTE, next, 1, expected, (int)bytes, MPI_BYTE, previous, 1, o->mpi,
                 MPI_STATUS_IGNORE);
    compare_moved(o, o->recv, expected, bytes);
    free(expected);
}

void test_moves(struct oracle *o, enum tutti_type type, size_t count)
{
    static const struct {
        const char *name;
        void (*run)(struct oracle *o);
    } moves[] = {
        {"broadcast", case_broadcast}, {"all_gather", case_all_gather}, {"gather", case_gather},
        {"scatter", case_scatter},     {"all_to_all", case_all_to_all}, {"all_gather_v", case_all_gather_v},
        {"gather_v", case_gather_v},   {"scatter_v", case_scatter_v},   {"all_to_all_v", case_all_to_all_v},
        {"a message", case_message}};
    for (size_t m = 0; m < sizeof moves / sizeof moves[0]; m++)
        for (int in_place = 0; in_place < 2; in_place++) {
            begin_case(o, moves[m].name, type, TUTTI_SUM, INPUT_BITS, count, in_place == 1);
            moves[m].run(o);
            end_case(o);
        }
}

void test_large(struct oracle *o)
{
    const size_t count = ((size_t)64 << 20) / sizeof(float);
    for (int in_place = 0; in_place < 2; in_place++) {
        begin_case(o, "all_reduce", TUTTI_FLOAT32, TUTTI_SUM, INPUT_PLAIN, count, in_place == 1);
        case_all_reduce(o);
        end_case(o);
        begin_case(o, "reduce_scatter", TUTTI_FLOAT32, TUTTI_SUM, INPUT_PLAIN, count / (size_t)o->size,
                   in_place == 1);
        case_reduce_scatter(o);
        end_case(o);
    }
}
