/* A chunk of Blosc 1 that was compressed by LZ4; false if it is another one, or damaged, or `work` holds no block of
 * it. Format: "Blosc Header Format" and blosc.c of C-Blosc 1.21. Numbers are little-endian, as this processor's. */

#pragma once

#include <stdint.h>
#include <string.h>

#include "lz4.h"

enum { HEADER = 16, VERSION = 2, LZ4_VERSION = 1, BITS_SHUFFLED = 4, NEVER_SPLIT = 16, LZ4 = 1 };

/* Puts the shuffled bits of a block of elements back, past the caches if `past` is true. */
typedef void Unshuffle(const uint8_t *in, size_t count, size_t itemsize, uint8_t *out, int past);

static int decode_blosc(const uint8_t *in, size_t stored, uint8_t *out, size_t size, uint8_t *work, size_t work_size,
                        int past, Unshuffle *unshuffle)
{
    uint32_t sizes[3]; /* of all that is decoded, of a block, and of the chunk as it is stored */
    if (stored < HEADER || in[0] != VERSION || in[1] != LZ4_VERSION)
        return 0;
    memcpy(sizes, in + 4, sizeof sizes);
    const unsigned flags = in[2];
    const size_t itemsize = in[3], block_size = sizes[1];
    const int shuffled = (flags & BITS_SHUFFLED) != 0;
    if (sizes[0] != size || sizes[2] != stored || size == 0 || block_size == 0 || block_size > size || itemsize == 0 ||
        (flags & ~(BITS_SHUFFLED | NEVER_SPLIT)) != LZ4 << 5)
        return 0;
    const size_t blocks = (size + block_size - 1) / block_size;
    if ((stored - HEADER) / 4 < blocks)
        return 0;
    if (shuffled && (work_size < block_size || (itemsize != 1 && itemsize != 2 && itemsize != 4)))
        return 0;
    for (size_t block = 0; block < blocks; block++) {
        const size_t start = block * block_size, left = size - start;
        const size_t here = left < block_size ? left : block_size;
        const size_t parts = !(flags & NEVER_SPLIT) && here == block_size ? itemsize : 1;
        if (here % parts || (shuffled && here % (8 * itemsize)))
            return 0;
        const size_t part = here / parts;
        uint8_t *to = shuffled ? work : out + start;
        uint32_t at;
        memcpy(&at, in + HEADER + 4 * block, 4);
        for (size_t k = 0; k < parts; k++, to += part) {
            uint32_t length;
            if (at > stored || stored - at < 4)
                return 0;
            memcpy(&length, in + at, 4);
            at += 4;
            if (length > stored - at)
                return 0;
            if (length == part)
                memcpy(to, in + at, part);
            else if (!decode_lz4(in + at, length, to, part))
                return 0;
            at += length;
        }
        if (shuffled)
            unshuffle(work, here / itemsize, itemsize, out + start, past);
    }
    return 1;
}
