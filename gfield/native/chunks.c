/* Stored chunks, checked and decoded without Python's lock: CRC-32C, and what Blosc makes of LZ4, bits shuffled or not.
 *
 * Why it is faster than the libraries, which define what it does: a raw chunk is checked in the registers that copy it;
 * the checksum takes 64 bytes an instruction where the processor can; bits are put back by its 8 x 8 bit matrices; and
 * what goes to an array larger than the caches is written past them, which need not fetch first what is overwritten.
 * Whatever is not as expected here, damage included, is left to the libraries, and so are all error messages. Only
 * that stored bytes cannot be had at all is said here, since nobody else would live to tell.
 *
 * For x86-64 processors with SSE4.2; the module does not load on others.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <errno.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))

#include "bits.h"
#include "blosc.h"
#include "crc32c.h"
#include "guard.h"
#include "processor.h"

typedef struct {
    uint32_t (*crc)(uint32_t crc, const uint8_t *data, size_t size, uint8_t *copy, int past);
    Unshuffle *unshuffle;
} Kernels;

static const Kernels BASE_KERNELS = {crc_base, unshuffle_base}, WIDE_KERNELS = {crc_wide, unshuffle_wide};
static int wide_supported;

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
               decode_blosc(stored, size, out, out_size, work, work_size, past, kernels->unshuffle);
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

static PyObject *lost(void)
{
    errno = EIO;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *fetch(PyObject *module, PyObject *args)
{
    Py_buffer stored, out;
    Guard guard;
    int read;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*w*:fetch", &stored, &out))
        return NULL;
    const int fits = stored.len == out.len;
    Py_BEGIN_ALLOW_THREADS
    if (sigsetjmp(guard.back, 0) == 0) {
        guard_begin(&guard, stored.buf, (size_t)stored.len);
        if (fits)
            memcpy(out.buf, stored.buf, (size_t)stored.len);
        read = 1;
    } else {
        read = 0;
    }
    guard_end();
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&stored);
    PyBuffer_Release(&out);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "stored and out are not of one size");
        return NULL;
    }
    if (!read)
        return lost();
    Py_RETURN_NONE;
}

static PyObject *decode(PyObject *module, PyObject *args)
{
    Py_buffer stored, out, work;
    Guard guard;
    int compressed, past, base = 0, done, read;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*w*w*pp|p:decode", &stored, &out, &work, &compressed, &past, &base))
        return NULL;
    const Kernels *kernels = base || !wide_supported ? &BASE_KERNELS : &WIDE_KERNELS;
    Py_BEGIN_ALLOW_THREADS
    if (sigsetjmp(guard.back, 0) == 0) {
        guard_begin(&guard, stored.buf, (size_t)stored.len);
        done = decode_chunk(stored.buf, (size_t)stored.len, out.buf, (size_t)out.len, work.buf, (size_t)work.len,
                            compressed, past, kernels);
        read = 1;
    } else {
        done = read = 0;
    }
    guard_end();
    _mm_sfence(); /* what was written past the caches is there before anything that follows */
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&stored);
    PyBuffer_Release(&out);
    PyBuffer_Release(&work);
    return read ? PyBool_FromLong(done) : lost();
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
     "and decoded; OSError where its bytes cannot be had."},
    {"fetch", fetch, METH_VARARGS,
     "fetch(stored, out): copy bytes of a mapped file; OSError where they cannot be had."},
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
