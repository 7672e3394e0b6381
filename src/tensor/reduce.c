#include <assert.h>
#include <stdint.h>
#include "tensor/reduce_kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* With an operating system that saves the registers, and the conversions of float16, which not every
 * compiler's __builtin_cpu_supports() knows. */
static bool has_avx2(void)
{
    unsigned eax, ebx, ecx, edx;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C) != 0;
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#else
static bool has_avx2(void)
{
    return false;
}

static bool has_avx512(void)
{
    return false;
}
#endif

const struct reduce_table *reduce_table_avx2(void)
{
    return has_avx2() ? reduce_avx2_kernels : NULL;
}

const struct reduce_table *reduce_table_avx512(void)
{
    return has_avx512() ? reduce_avx512_kernels : NULL;
}

const struct reduce_table *reduce_table(void)
{
    const struct reduce_table *avx2 = reduce_table_avx2(), *avx512 = reduce_table_avx512();
    return avx512 != NULL ? avx512 : avx2 != NULL ? avx2 : reduce_table_scalar();
}

/* ---- Many sources ---------------------------------------------------------------------------------- */

/* What is combined so far stays on the stack, in blocks that a first-level cache holds: the target may be a
 * source that is still to be read. */
#define BLOCK_BYTES    4096
#define BLOCK_ELEMENTS (BLOCK_BYTES / sizeof(float))

static const void *element_at(const void *source, size_t index, size_t element_bytes)
{
    return (const unsigned char *)source + index * element_bytes;
}

static void fold_blocks(reduce_kernel reduce, size_t element_bytes, void *target, const void *const *sources,
                        int source_count, size_t count)
{
    _Alignas(64) unsigned char sum[BLOCK_BYTES];
    const size_t block = BLOCK_BYTES / element_bytes;
    for (size_t i = 0, part; i < count; i += part) {
        part = count - i < block ? count - i : block;
        const void *left = element_at(sources[0], i, element_bytes);
        for (int s = 1; s < source_count; s++) {
            void *result = s + 1 < source_count ? sum : (unsigned char *)target + i * element_bytes;
            reduce(result, left, element_at(sources[s], i, element_bytes), part);
            left = sum;
        }
    }
}

static void fold_halves(const struct reduce_table *table, int type, int reduction, void *target,
                        const void *const *sources, int source_count, size_t count)
{
    _Alignas(64) float sum[BLOCK_ELEMENTS], term[BLOCK_ELEMENTS];
    for (size_t i = 0, part; i < count; i += part) {
        part = count - i < BLOCK_ELEMENTS ? count - i : BLOCK_ELEMENTS;
        table->widen[type](sum, element_at(sources[0], i, sizeof(uint16_t)), part);
        for (int s = 1; s < source_count; s++) {
            table->widen[type](term, element_at(sources[s], i, sizeof(uint16_t)), part);
            table->reduce[TUTTI_FLOAT32][reduction](sum, sum, term, part);
        }
        table->narrow[type]((unsigned char *)target + i * sizeof(uint16_t), sum, part);
    }
}

void reduce_many(const struct reduce_table *table, int type, int reduction, void *target,
                 const void *const *sources, int source_count, size_t count)
{
    assert(source_count >= 2);
    reduce_kernel reduce = table->reduce[type][reduction];
    if (source_count == 2) { /* the everyday case: nothing else may cost time */
        reduce(target, sources[0], sources[1], count);
        return;
    }
    many_kernel many = table->many[type][reduction];
    if (many != NULL)
        many(target, sources, source_count, count);
    else if (type_is_half(type) && reduction != TUTTI_MIN && reduction != TUTTI_MAX)
        fold_halves(table, type, reduction, target, sources, source_count, count);
    else /* the least and the greatest need no rounding, whatever the type */
        fold_blocks(reduce, type_size(type), target, sources, source_count, count);
}
