/* One LZ4 block of which the decoded size is known; false if it is no such block. Format: "LZ4 Block Format
 * Description", lz4.org. Copies may run past what they are for, by less than ROOM bytes, where there is room. */

#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { ROOM = 64, LAST_LITERALS = 5 };

/* As memcpy, of what may overlap: all is read before any of it is written. */
static inline void copy_8(uint8_t *to, const uint8_t *from)
{
    uint64_t bytes;
    memcpy(&bytes, from, sizeof bytes);
    memcpy(to, &bytes, sizeof bytes);
}

static inline void copy_32(uint8_t *to, const uint8_t *from)
{
    const __m128i low = _mm_loadu_si128((const __m128i *)from), high = _mm_loadu_si128((const __m128i *)(from + 16));
    _mm_storeu_si128((__m128i *)to, low);
    _mm_storeu_si128((__m128i *)(to + 16), high);
}

/* A count's remaining bytes; false where the block ends within. */
static int more_of_count(const uint8_t **at, const uint8_t *end, size_t *count)
{
    unsigned byte;
    do {
        if (*at >= end)
            return 0;
        byte = *(*at)++;
        *count += byte;
    } while (byte == 255);
    return 1;
}

/* Repeat the `distance` bytes before `to` up to `end`, or up to 31 bytes past it; returns up to where. */
static uint8_t *repeat(uint8_t *to, const uint8_t *end, size_t distance)
{
    const uint8_t *from = to - distance;
    if (distance < 8) {
        /* One number that holds them as often as it can. */
        static const uint64_t COPIES[8] = {0,           0x0101010101010101, 0x0001000100010001, 0x0001000001000001,
                                           0x100000001, 0x0000010000000001, 0x0001000000000001, 0x0100000000000001};
        uint64_t pattern[4];
        memcpy(pattern, from, 8);
        pattern[0] = (pattern[0] & (((uint64_t)1 << 8 * distance) - 1)) * COPIES[distance];
        if (8 % distance == 0) {
            pattern[1] = pattern[2] = pattern[3] = pattern[0];
            for (; to < end; to += sizeof pattern)
                memcpy(to, pattern, sizeof pattern);
        } else {
            for (; to < end; to += 8 - 8 % distance)
                memcpy(to, pattern, 8);
        }
        return to;
    }
    /* As long as they are fewer than a copy takes, each copy doubles them. */
    for (; distance < 32 && to < end; distance *= 2) {
        copy_32(to, from);
        to += distance;
    }
    for (; to < end; to += 32, from += 32)
        copy_32(to, from);
    return to;
}

static int decode_lz4(const uint8_t *in, size_t stored, uint8_t *out, size_t size)
{
    const uint8_t *const in_end = in + stored;
    uint8_t *to = out, *const out_end = out + size;
    while (in < in_end) {
        const unsigned token = *in++;
        size_t literals = token >> 4, match = token & 15;
        if (literals < 15 && in_end - in >= ROOM && out_end - to >= ROOM) {
            memcpy(to, in, 16);
        } else {
            if (literals == 15 && !more_of_count(&in, in_end, &literals))
                return 0;
            const size_t in_left = (size_t)(in_end - in), out_left = (size_t)(out_end - to);
            if (literals > in_left || literals > out_left)
                return 0;
            if (in_left - literals >= ROOM && out_left - literals >= ROOM) {
                for (size_t done = 0; done < literals; done += 32)
                    copy_32(to + done, in + done);
            } else {
                memcpy(to, in, literals);
                if (literals == in_left)
                    return literals == out_left;
            }
        }
        in += literals;
        to += literals;
        if (in_end - in < 2)
            return 0;
        const size_t distance = in[0] | (size_t)in[1] << 8;
        in += 2;
        if (distance == 0 || distance > (size_t)(to - out))
            return 0;
        const uint8_t *from = to - distance;
        if (match < 15 && distance >= 8 && out_end - to >= ROOM) {
            copy_8(to, from);
            copy_8(to + 8, from + 8);
            copy_8(to + 16, from + 16);
            to += match + 4;
            continue;
        }
        if (match == 15 && !more_of_count(&in, in_end, &match))
            return 0;
        match += 4;
        if (match + LAST_LITERALS > (size_t)(out_end - to))
            return 0;
        uint8_t *const end = to + match;
        if (out_end - to >= ROOM)
            to = repeat(to, out_end - end >= ROOM ? end : out_end - ROOM, distance);
        for (; to < end; to++)
            *to = *(to - distance);
        to = end;
    }
    return 0;
}
