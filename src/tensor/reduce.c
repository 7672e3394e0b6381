#include "tensor/reduce_kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* AVX2, with an operating system that saves its registers, and the conversions of float16, which not every
 * compiler's __builtin_cpu_supports() knows. */
static bool has_avx2_and_f16c(void)
{
    unsigned eax, ebx, ecx, edx;
    return __builtin_cpu_supports("avx2") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C) != 0;
}
#else
static bool has_avx2_and_f16c(void)
{
    return false;
}
#endif

const struct reduce_table *reduce_table_avx2(void)
{
    return reduce_avx2_kernels != NULL && has_avx2_and_f16c() ? reduce_avx2_kernels : NULL;
}

const struct reduce_table *reduce_table(void)
{
    const struct reduce_table *avx2 = reduce_table_avx2();
    return avx2 != NULL ? avx2 : reduce_table_scalar();
}
