/* The machine: its CPU level, its cores, its clock and its floating-point state.
 *
 * A level counts only when the operating system saves its registers too (XGETBV). */
#include "context.h"

#include <fenv.h>
#include <sched.h>
#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>

#define MXCSR_DEFAULT 0x1f80u /* all exceptions masked, to nearest, no flush to zero */
#define X87_DEFAULT 0x37f     /* the same, and 64-bit mantissas */
#define STATE_DEFAULT ((uint64_t)X87_DEFAULT << 32 | MXCSR_DEFAULT)

static uint64_t read_xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

int32_t ar_cpu_detect(void) {
    unsigned a, b, c, d;
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, avx2 = 1u << 5;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return AR_CPU_PORTABLE;
    if ((c & (fma | osxsave | avx)) != (fma | osxsave | avx)) return AR_CPU_PORTABLE;
    if ((read_xcr0() & 6) != 6) return AR_CPU_PORTABLE; /* SSE and AVX registers */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return AR_CPU_PORTABLE;
    return b & avx2 ? AR_CPU_AVX2 : AR_CPU_PORTABLE;
}

/* The x87 word too: the C library asks it for the rounding when it reads and prints numbers. */
static uint64_t make_standard(void) {
    uint32_t sse, sse_now = MXCSR_DEFAULT;
    uint16_t x87, x87_now = X87_DEFAULT;
    __asm__ volatile("stmxcsr %0" : "=m"(sse));
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    __asm__ volatile("ldmxcsr %0" : : "m"(sse_now));
    if (x87 != x87_now) __asm__ volatile("fldcw %0" : : "m"(x87_now));
    return (uint64_t)x87 << 32 | sse;
}

void ar_fp_leave(uint64_t state) {
    uint32_t sse = (uint32_t)state;
    uint16_t x87 = (uint16_t)(state >> 32);
    __asm__ volatile("ldmxcsr %0" : : "m"(sse));
    if (x87 != X87_DEFAULT) __asm__ volatile("fldcw %0" : : "m"(x87));
}

#else

#define STATE_DEFAULT ((uint64_t)FE_TONEAREST)

int32_t ar_cpu_detect(void) {
    return AR_CPU_PORTABLE;
}

static uint64_t make_standard(void) {
    int old = fegetround();
    fesetround(FE_TONEAREST);
    return (uint64_t)old;
}

void ar_fp_leave(uint64_t state) {
    fesetround((int)state);
}

#endif

/* What the last enter on this thread found: the state of whoever's hooks are called from it. By
 * thread, for a context may serve several threads, each with a state of its own. */
static _Thread_local uint64_t callers_state = STATE_DEFAULT;

uint64_t ar_fp_enter(void) {
    callers_state = make_standard();
    return callers_state;
}

uint64_t ar_fp_outside(void) {
    uint64_t state = callers_state;
    ar_fp_leave(state);
    return state;
}

void ar_fp_inside(uint64_t state) {
    (void)make_standard();
    callers_state = state; /* the hook may have been in the library meanwhile */
}

const char *ar_cpu_name(int32_t level) {
    static const char *const names[AR_CPU_COUNT] = {"portable", "avx2"};
    return level >= 0 && level < AR_CPU_COUNT ? names[level] : "unknown";
}

int32_t ar_cpu_cores(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    /* Fails on machines with more processors than the set holds: one thread is always right. */
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : (int32_t)count;
}

static double seconds_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double ar_clock(void) {
    return seconds_of(CLOCK_MONOTONIC);
}

double ar_cpu_clock(void) {
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}
