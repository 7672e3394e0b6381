/* A turn of a spinning loop: tells the core that it waits. */
#ifndef TUTTI_BASE_RELAX_H
#define TUTTI_BASE_RELAX_H

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
