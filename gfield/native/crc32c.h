/* CRC-32C. Polynomials are reflected: their lowest powers lie in the highest bits.
 *
 * The remainder of A * x^n can be had from that of A by one multiplication with x^n mod P, which lets a buffer be taken
 * in several lanes side by side (base), or folded 2048 bits forward at a time (wide). Method: Gopal et al., "Fast CRC
 * Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel, 2009. */

#pragma once

#include <stdint.h>
#include <string.h>

#include "processor.h"

enum { LANE = 1024, FOLDED = 256 };

typedef struct {
    uint32_t one_lane, two_lanes;      /* move a remainder over so many lanes */
    uint64_t by_256[2], by_64[2], by_16[2]; /* move 128 bits over so many bytes: the lower half's factor, the upper's */
} Powers;

static Powers powers;

static uint32_t power_of_x(int n)
{
    uint32_t value = 0x80000000u;
    while (n-- > 0)
        value = (value >> 1) ^ (value & 1 ? 0x82f63b78u : 0);
    return value;
}

static void set_powers(void)
{
    /* 33 less, since the product of two reflected polynomials lies one bit off, and crc32 multiplies by x^32 itself. */
    powers.one_lane = power_of_x(8 * LANE - 33);
    powers.two_lanes = power_of_x(16 * LANE - 33);
    uint64_t *pairs[3] = {powers.by_256, powers.by_64, powers.by_16};
    const int bytes[3] = {256, 64, 16};
    for (int k = 0; k < 3; k++) {
        pairs[k][0] = power_of_x(8 * bytes[k] + 31);
        pairs[k][1] = power_of_x(8 * bytes[k] - 33);
    }
}

BASE static uint32_t crc_bytewise(uint32_t crc, const uint8_t *data, size_t size)
{
    uint64_t wide = crc;
    for (; size >= 8; size -= 8, data += 8) {
        uint64_t eight;
        memcpy(&eight, data, 8);
        wide = _mm_crc32_u64(wide, eight);
    }
    crc = (uint32_t)wide;
    for (; size > 0; size--)
        crc = _mm_crc32_u8(crc, *data++);
    return crc;
}

BASE static uint64_t product(uint32_t a, uint32_t b)
{
    return (uint64_t)_mm_cvtsi128_si64(_mm_clmulepi64_si128(_mm_cvtsi32_si128((int)a), _mm_cvtsi32_si128((int)b), 0));
}

/* Continue a checksum over `data`, which is also copied to `copy` unless that is NULL; three lanes hide the latency of
 * crc32. If `past` is true, `copy` is the start of a cache's line. */
BASE static uint32_t crc_base(uint32_t crc, const uint8_t *data, size_t size, uint8_t *copy, int past)
{
    for (; size >= 3 * LANE; size -= 3 * LANE, data += 3 * LANE) {
        uint64_t lane[3] = {crc, 0, 0};
        for (size_t at = 0; at < LANE; at += 8)
            for (int k = 0; k < 3; k++) {
                uint64_t eight;
                memcpy(&eight, data + k * LANE + at, 8);
                lane[k] = _mm_crc32_u64(lane[k], eight);
            }
        uint64_t moved = product((uint32_t)lane[0], powers.two_lanes) ^ product((uint32_t)lane[1], powers.one_lane);
        crc = (uint32_t)_mm_crc32_u64(0, moved) ^ (uint32_t)lane[2];
        if (copy) { /* from the fastest cache */
            if (past)
                stream_lines(copy, data, 3 * LANE);
            else
                memcpy(copy, data, 3 * LANE);
            copy += 3 * LANE;
        }
    }
    if (copy)
        memcpy(copy, data, size);
    return crc_bytewise(crc, data, size);
}

WIDE static inline __m512i folded(__m512i sum, __m512i by, __m512i next)
{
    __m512i low = _mm512_clmulepi64_epi128(sum, by, 0x00), high = _mm512_clmulepi64_epi128(sum, by, 0x11);
    return _mm512_ternarylogic_epi64(low, high, next, 0x96); /* all three, exclusive or */
}

WIDE static inline __m128i folded_once(__m128i sum, __m128i by, __m128i next)
{
    __m128i low = _mm_clmulepi64_si128(sum, by, 0x00), high = _mm_clmulepi64_si128(sum, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

WIDE static inline __m128i factors(const uint64_t *pair)
{
    return _mm_set_epi64x((long long)pair[1], (long long)pair[0]);
}

WIDE static uint32_t crc_wide(uint32_t crc, const uint8_t *data, size_t size, uint8_t *copy, int past)
{
    if (size >= FOLDED) {
        const __m512i by_256 = _mm512_broadcast_i32x4(factors(powers.by_256));
        const __m512i by_64 = _mm512_broadcast_i32x4(factors(powers.by_64));
        const __m128i by_16 = factors(powers.by_16);
        __m512i sum[4];
        for (int k = 0; k < 4; k++)
            sum[k] = _mm512_setzero_si512();
        __m512i first = _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)crc));
        for (; size >= FOLDED; size -= FOLDED, data += FOLDED) {
            for (int k = 0; k < 4; k++) {
                __m512i next = _mm512_loadu_si512(data + 64 * k);
                if (past)
                    _mm512_stream_si512((__m512i *)(copy + 64 * k), next);
                else if (copy)
                    _mm512_storeu_si512(copy + 64 * k, next);
                sum[k] = folded(sum[k], by_256, k ? next : _mm512_xor_si512(next, first));
            }
            first = _mm512_setzero_si512();
            if (copy)
                copy += FOLDED;
        }
        for (int k = 1; k < 4; k++)
            sum[k] = folded(sum[k - 1], by_64, sum[k]);
        __m128i last = _mm512_extracti32x4_epi32(sum[3], 0);
        last = folded_once(last, by_16, _mm512_extracti32x4_epi32(sum[3], 1));
        last = folded_once(last, by_16, _mm512_extracti32x4_epi32(sum[3], 2));
        last = folded_once(last, by_16, _mm512_extracti32x4_epi32(sum[3], 3));
        uint64_t low = (uint64_t)_mm_cvtsi128_si64(last), high = (uint64_t)_mm_extract_epi64(last, 1);
        crc = (uint32_t)_mm_crc32_u64(_mm_crc32_u64(0, low), high);
    }
    if (copy)
        memcpy(copy, data, size);
    return crc_bytewise(crc, data, size);
}
