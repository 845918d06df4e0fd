/* Bits back in their places: of 64 elements' byte number k, bit b lies in bytes 8 n to 8 n + 7 of row 8 k + b. */

#pragma once

#include <stdint.h>
#include <string.h>

#include "processor.h"

static uint64_t transposed_bits(uint64_t x)
{
    uint64_t t = (x ^ (x >> 7)) & 0x00aa00aa00aa00aa;
    x ^= t ^ (t << 7);
    t = (x ^ (x >> 14)) & 0x0000cccc0000cccc;
    x ^= t ^ (t << 14);
    t = (x ^ (x >> 28)) & 0x00000000f0f0f0f0;
    return x ^ t ^ (t << 28);
}

BASE static inline __m128i transposed_bits_of_two(__m128i x)
{
    __m128i t = _mm_and_si128(_mm_xor_si128(x, _mm_srli_epi64(x, 7)), _mm_set1_epi64x(0x00aa00aa00aa00aa));
    x = _mm_xor_si128(x, _mm_xor_si128(t, _mm_slli_epi64(t, 7)));
    t = _mm_and_si128(_mm_xor_si128(x, _mm_srli_epi64(x, 14)), _mm_set1_epi64x(0x0000cccc0000cccc));
    x = _mm_xor_si128(x, _mm_xor_si128(t, _mm_slli_epi64(t, 14)));
    t = _mm_and_si128(_mm_xor_si128(x, _mm_srli_epi64(x, 28)), _mm_set1_epi64x(0x00000000f0f0f0f0));
    return _mm_xor_si128(x, _mm_xor_si128(t, _mm_slli_epi64(t, 28)));
}

/* 64 bytes out of 8 bytes of each of 8 rows: bytes transposed by unpacking, then each 8 x 8 bits. */
BASE static inline void gather_64_base(const uint8_t *rows, size_t stride, uint8_t *out, int past)
{
    __m128i row[8], pair[4], four[4];
    for (int k = 0; k < 8; k++)
        row[k] = _mm_loadl_epi64((const __m128i *)(rows + k * stride));
    for (int k = 0; k < 4; k++)
        pair[k] = _mm_unpacklo_epi8(row[2 * k], row[2 * k + 1]);
    for (int k = 0; k < 2; k++) {
        four[k] = _mm_unpacklo_epi16(pair[2 * k], pair[2 * k + 1]);
        four[2 + k] = _mm_unpackhi_epi16(pair[2 * k], pair[2 * k + 1]);
    }
    for (int k = 0; k < 2; k++) {
        __m128i low = _mm_unpacklo_epi32(four[2 * k], four[2 * k + 1]);
        __m128i high = _mm_unpackhi_epi32(four[2 * k], four[2 * k + 1]);
        low = transposed_bits_of_two(low);
        high = transposed_bits_of_two(high);
        __m128i *to = (__m128i *)(out + 32 * k);
        if (past) {
            _mm_stream_si128(to, low);
            _mm_stream_si128(to + 1, high);
        } else {
            _mm_storeu_si128(to, low);
            _mm_storeu_si128(to + 1, high);
        }
    }
}

WIDE static inline void gather_64_wide(const uint8_t *rows, size_t stride, uint8_t *out, int past)
{
    /* Byte j of row k goes to place 8 j + 7 - k; the matrix product with the identity's rows then transposes. */
    const __m512i places = _mm512_set_epi64(0x070f171f272f373f, 0x060e161e262e363e, 0x050d151d252d353d,
                                            0x040c141c242c343c, 0x030b131b232b333b, 0x020a121a222a323a,
                                            0x0109111921293139, 0x0008101820283038);
    const __m512i identity = _mm512_set1_epi64((long long)0x8040201008040201);
    long long row[8];
    for (int k = 0; k < 8; k++)
        memcpy(&row[k], rows + k * stride, 8);
    __m512i bytes = _mm512_set_epi64(row[7], row[6], row[5], row[4], row[3], row[2], row[1], row[0]);
    bytes = _mm512_gf2p8affine_epi64_epi8(identity, _mm512_permutexvar_epi8(places, bytes), 0);
    if (past)
        _mm512_stream_si512((__m512i *)out, bytes);
    else
        _mm512_storeu_si512(out, bytes);
}

/* Elements out of their bytes' planes, RUN of each. */
enum { LINE = 64, RUN = 8 * LINE };

static inline void interleave(const uint8_t *restrict planes, size_t itemsize, uint8_t *restrict out)
{
    if (itemsize == 2) {
        for (size_t i = 0; i < RUN; i++)
            for (size_t k = 0; k < 2; k++)
                out[2 * i + k] = planes[RUN * k + i];
    } else {
        for (size_t i = 0; i < RUN; i++)
            for (size_t k = 0; k < 4; k++)
                out[4 * i + k] = planes[RUN * k + i];
    }
}

/* The whole of a block: `count` elements, a multiple of 8, of 1, 2 or 4 bytes. Rows are read by whole lines of the
 * cache, eight rows at a time, since rows of 2^n bytes all fall on the same few places of it. */
#define DEFINE_UNSHUFFLE(NAME, TARGET, GATHER)                                                                         \
    TARGET static void NAME(const uint8_t *in, size_t count, size_t itemsize, uint8_t *out, int past)                  \
    {                                                                                                                  \
        const size_t row_bytes = count / 8;                                                                            \
        const int straight = past && itemsize == 1 && bytes_to_line(out) == 0;                                         \
        uint8_t planes[4 * RUN];                                                                                       \
        size_t at = 0;                                                                                                 \
        for (; at + LINE <= row_bytes; at += LINE) {                                                                   \
            uint8_t *to = itemsize == 1 ? out + 8 * at : planes;                                                       \
            for (size_t k = 0; k < itemsize; k++)                                                                      \
                for (size_t j = 0; j < LINE; j += 8)                                                                   \
                    GATHER(in + 8 * k * row_bytes + at + j, row_bytes, to + RUN * k + 8 * j, straight);                \
            if (itemsize > 1)                                                                                          \
                interleave(planes, itemsize, out + 8 * at * itemsize);                                                 \
        }                                                                                                              \
        for (; at < row_bytes; at++)                                                                                   \
            for (size_t k = 0; k < itemsize; k++) {                                                                    \
                uint64_t bits = 0;                                                                                     \
                for (size_t b = 0; b < 8; b++)                                                                         \
                    bits |= (uint64_t)in[(8 * k + b) * row_bytes + at] << 8 * b;                                       \
                bits = transposed_bits(bits);                                                                          \
                for (size_t i = 0; i < 8; i++)                                                                         \
                    out[(8 * at + i) * itemsize + k] = (uint8_t)(bits >> 8 * i);                                       \
            }                                                                                                          \
    }

DEFINE_UNSHUFFLE(unshuffle_base, BASE, gather_64_base)
DEFINE_UNSHUFFLE(unshuffle_wide, WIDE, gather_64_wide)
