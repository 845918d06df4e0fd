/* What x86-64 processors can do: a base level, which all of the last fifteen years have, and a wide one. */

#pragma once

#include <immintrin.h>
#include <stdint.h>

#define BASE __attribute__((target("sse4.2,pclmul")))
#define WIDE __attribute__((target("sse4.2,pclmul,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,vpclmulqdq,gfni")))

static int has_base(void) { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"); }

static int has_wide(void)
{
    return has_base() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("vpclmulqdq") &&
           __builtin_cpu_supports("gfni");
}

/* Copy whole lines of a cache to `to`, which is the start of one, past the caches; the caller ends with a fence. */
static inline void stream_lines(uint8_t *to, const uint8_t *from, size_t size)
{
    for (size_t at = 0; at < size; at += 64) {
        __m128i part[4];
        for (int k = 0; k < 4; k++)
            part[k] = _mm_loadu_si128((const __m128i *)(from + at + 16 * k));
        for (int k = 0; k < 4; k++)
            _mm_stream_si128((__m128i *)(to + at + 16 * k), part[k]);
    }
}

static size_t bytes_to_line(const uint8_t *address) { return (size_t)(-(uintptr_t)address & 63); }
