/* Stored chunks, checked and decoded without Python's lock: CRC-32C, and what Blosc makes of LZ4, bits shuffled or not.
 *
 * Why it is faster than the libraries, which define what it does: a raw chunk is checked in the registers that copy it;
 * the checksum takes 64 bytes an instruction where the processor can; bits are put back by its 8 x 8 bit matrices; and
 * what goes to an array larger than the caches is written past them, which need not fetch first what is overwritten.
 * Whatever is not as expected here, damage included, is left to the libraries, and so are all error messages.
 *
 * For x86-64 processors with SSE4.2; the module does not load on others.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))

#include <immintrin.h>

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

/* CRC-32C, the polynomials' lowest powers in the highest bits.
 *
 * The remainder of A * x^n can be had from that of A by one multiplication with x^n mod P, which lets a buffer be taken
 * in several lanes side by side (base), or folded 2048 bits forward at a time (wide). Method: Gopal et al., "Fast CRC
 * Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel, 2009. */

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

/* One LZ4 block of which the decoded size is known; false if it is no such block. Format: "LZ4 Block Format
 * Description", lz4.org. Copies may run past what they are for, by less than ROOM bytes, where there is room. */

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

/* Bits back in their places: of 64 elements' byte number k, bit b lies in bytes 8 n to 8 n + 7 of row 8 k + b. */

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

typedef struct {
    uint32_t (*crc)(uint32_t crc, const uint8_t *data, size_t size, uint8_t *copy, int past);
    void (*unshuffle)(const uint8_t *in, size_t count, size_t itemsize, uint8_t *out, int past);
} Kernels;

static const Kernels BASE_KERNELS = {crc_base, unshuffle_base}, WIDE_KERNELS = {crc_wide, unshuffle_wide};
static int wide_supported;

/* A chunk of Blosc 1 that was compressed by LZ4; false if it is another one, or damaged, or `work` holds no block of
 * it. Format: "Blosc Header Format" and blosc.c of C-Blosc 1.21. Numbers are little-endian, as this processor's. */
enum { HEADER = 16, VERSION = 2, LZ4_VERSION = 1, BITS_SHUFFLED = 4, NEVER_SPLIT = 16, LZ4 = 1 };

static int decode_blosc(const uint8_t *in, size_t stored, uint8_t *out, size_t size, uint8_t *work, size_t work_size,
                        int past, const Kernels *kernels)
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
            kernels->unshuffle(work, here / itemsize, itemsize, out + start, past);
    }
    return 1;
}

static uint32_t checksum(const uint8_t *data, size_t size, uint8_t *copy, int past, const Kernels *kernels)
{
    uint32_t crc = ~(uint32_t)0;
    const size_t before = past ? bytes_to_line(copy) : 0;
    if (past && before <= size) {
        memcpy(copy, data, before);
        crc = crc_bytewise(crc, data, before);
        data += before;
        copy += before;
        size -= before;
    } else {
        past = 0;
    }
    return ~kernels->crc(crc, data, size, copy, past);
}

static int decode_chunk(const uint8_t *stored, size_t size, uint8_t *out, size_t out_size, uint8_t *work,
                        size_t work_size, int compressed, int past, const Kernels *kernels)
{
    uint32_t wanted;
    if (size < sizeof wanted)
        return 0;
    size -= sizeof wanted;
    memcpy(&wanted, stored + size, sizeof wanted);
    if (compressed)
        return checksum(stored, size, NULL, 0, kernels) == wanted &&
               decode_blosc(stored, size, out, out_size, work, work_size, past, kernels);
    return size == out_size && checksum(stored, size, out, past, kernels) == wanted;
}

/* Frames that are decoded already, past the caches. */
static void take_frames(const uint8_t *frames, const int64_t *places, size_t count, uint8_t *out, size_t frame_size)
{
    for (size_t k = 0; k < count; k++, out += frame_size) {
        const uint8_t *from = frames + (size_t)places[k] * frame_size;
        size_t before = bytes_to_line(out);
        if (before > frame_size)
            before = frame_size;
        const size_t lines = (frame_size - before) / 64 * 64, rest = before + lines;
        memcpy(out, from, before);
        stream_lines(out + before, from + before, lines);
        memcpy(out + rest, from + rest, frame_size - rest);
    }
    _mm_sfence();
}

static PyObject *crc32c(PyObject *module, PyObject *args)
{
    Py_buffer data;
    int base = 0;
    uint32_t crc;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*|p:crc32c", &data, &base))
        return NULL;
    const Kernels *kernels = base || !wide_supported ? &BASE_KERNELS : &WIDE_KERNELS;
    Py_BEGIN_ALLOW_THREADS
    crc = checksum(data.buf, (size_t)data.len, NULL, 0, kernels);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLong(crc);
}

static PyObject *decode(PyObject *module, PyObject *args)
{
    Py_buffer stored, out, work;
    int compressed, past, base = 0, done;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*w*w*pp|p:decode", &stored, &out, &work, &compressed, &past, &base))
        return NULL;
    const Kernels *kernels = base || !wide_supported ? &BASE_KERNELS : &WIDE_KERNELS;
    Py_BEGIN_ALLOW_THREADS
    done = decode_chunk(stored.buf, (size_t)stored.len, out.buf, (size_t)out.len, work.buf, (size_t)work.len,
                        compressed, past, kernels);
    _mm_sfence(); /* what was written past the caches is there before anything that follows */
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&stored);
    PyBuffer_Release(&out);
    PyBuffer_Release(&work);
    return PyBool_FromLong(done);
}

static PyObject *take(PyObject *module, PyObject *args)
{
    Py_buffer frames, places, out;
    Py_ssize_t frame_size;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*w*n:take", &frames, &places, &out, &frame_size))
        return NULL;
    const int64_t *place = places.buf;
    const Py_ssize_t count = places.len / (Py_ssize_t)sizeof *place;
    int fits = frame_size > 0 && places.len % (Py_ssize_t)sizeof *place == 0 && (uintptr_t)place % sizeof *place == 0 &&
               out.len % frame_size == 0 && out.len / frame_size == count;
    for (Py_ssize_t k = 0; fits && k < count; k++)
        fits = place[k] >= 0 && place[k] < frames.len / frame_size;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        take_frames(frames.buf, place, (size_t)count, out.buf, (size_t)frame_size);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&frames);
    PyBuffer_Release(&places);
    PyBuffer_Release(&out);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "frames, places and out do not fit together");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"crc32c", crc32c, METH_VARARGS, "crc32c(data, base=False): checksum; with base, without the widest instructions."},
    {"decode", decode, METH_VARARGS,
     "decode(stored, out, work, compressed, past_caches, base=False): whether a chunk was whole, of a kind known here, "
     "and decoded."},
    {"take", take, METH_VARARGS, "take(frames, places, out, frame_size): copy frames, past the caches."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_chunks", "Stored chunks, checked and decoded.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__chunks(void)
{
    if (!has_base()) {
        PyErr_SetString(PyExc_ImportError, "gfield._chunks needs a processor with SSE4.2 and PCLMULQDQ");
        return NULL;
    }
    wide_supported = has_wide();
    set_powers();
    return PyModule_Create(&definition);
}

#else

PyMODINIT_FUNC PyInit__chunks(void)
{
    PyErr_SetString(PyExc_ImportError, "gfield._chunks is for x86-64");
    return NULL;
}

#endif
