/* Gradient fields of grey pictures: Sobel, Canny's mask and the magnitude under it, bit for bit as gfield/field.py
 * defines them by OpenCV, in one pass over the picture and one walk along its edges.
 *
 * Why it is faster than cv2.Canny, which it repeats: everything is done in 16 bits, a row at a time, without branches,
 * so that a compiler makes vector code of it; the rows stay in the fastest cache; and the magnitude is computed where
 * the walk along the edges comes by, so that neither gradients nor mask are ever stored for the whole picture.
 *
 * Legend: H rows and W columns of the picture. The padded plane has one pixel more on each side: (H + 2) x (W + 2).
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

/* glibc picks the version of the processor that it meets; elsewhere the compiler's base level has to do. */
#if defined(__x86_64__) && defined(__GLIBC__) && (defined(__GNUC__) || defined(__clang__))
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

enum { NOTHING = 0, WEAK = 1, STRONG = 2 };

/* tan(22.5 degrees) in units of 2^-15, as in OpenCV. */
#define TAN_22_5 13573u

/* Rows of numbers, padded by one on each side; the pointers are at column 0. */
typedef struct {
    int16_t *smooth, *slope;     /* one row of the picture and its two neighbours, weighed 1 2 1 and -1 0 1 */
    int16_t *dx[2], *dy[2];      /* the gradient, of this row and the one before */
    uint16_t *norm[3];           /* |dx| + |dy|, of this row and the two before */
} Rows;

/* Gradient and its norm of one row; `above`, `here`, `below` are padded grey rows at column 0. */
FOR_EACH_PROCESSOR
static void gradient_row(const uint8_t *restrict above, const uint8_t *restrict here, const uint8_t *restrict below,
                         Py_ssize_t width, int16_t *restrict smooth, int16_t *restrict slope, int16_t *restrict dx,
                         int16_t *restrict dy, uint16_t *restrict norm)
{
    for (Py_ssize_t j = -1; j <= width; j++) {
        smooth[j] = (int16_t)(above[j] + 2 * here[j] + below[j]);
        slope[j] = (int16_t)(below[j] - above[j]);
    }
    for (Py_ssize_t j = 0; j < width; j++) {
        int16_t x = (int16_t)(smooth[j + 1] - smooth[j - 1]);
        int16_t y = (int16_t)(slope[j - 1] + 2 * slope[j] + slope[j + 1]);
        dx[j] = x;
        dy[j] = y;
        norm[j] = (uint16_t)((x < 0 ? -x : x) + (y < 0 ? -y : y));
    }
}

/* Where a row's norm is a maximum along its gradient, and above which threshold.
 *
 * OpenCV compares |dy| << 15 with |dx| * tan(22.5) and |dx| * (tan(22.5) + 2^16), in 32 bits. All are integers, and
 * |dx| * 13573 is no multiple of 2^15 for 0 < |dx| <= 1020, so the same comparisons hold for the product's upper part
 * alone, in 16 bits. Where dx = dy = 0 the norm is 0, which is above no threshold.
 */
FOR_EACH_PROCESSOR
static void thin_row(const int16_t *restrict dx, const int16_t *restrict dy, const uint16_t *restrict above,
                     const uint16_t *restrict here, const uint16_t *restrict below, Py_ssize_t width, uint16_t low,
                     uint16_t high, uint8_t *restrict kind)
{
    for (Py_ssize_t j = 0; j < width; j++) {
        uint16_t x = (uint16_t)(dx[j] < 0 ? -dx[j] : dx[j]), y = (uint16_t)(dy[j] < 0 ? -dy[j] : dy[j]);
        uint16_t flat = (uint16_t)(((uint32_t)(uint16_t)(2 * x) * TAN_22_5) >> 16);
        uint16_t steep = (uint16_t)(2 * x + flat);
        uint16_t m = here[j];
        uint16_t across = (m > here[j - 1]) & (m >= here[j + 1]);
        uint16_t down = (m > above[j]) & (m >= below[j]);
        uint16_t falling = (m > above[j - 1]) & (m > below[j + 1]);
        uint16_t rising = (m > above[j + 1]) & (m > below[j - 1]);
        uint16_t diagonal = (int16_t)(dx[j] ^ dy[j]) < 0 ? rising : falling;
        uint16_t peak = y <= flat ? across : y > steep ? down : diagonal;
        uint16_t level = (uint16_t)((m > low) + (m > high));
        kind[j] = (uint8_t)(peak ? level : 0);
    }
}

/* The float16 bits of sqrt(dx^2 + dy^2) at a pixel of the padded grey plane. As gfield/quads.py does it: exact in
 * float32, and rounded once, since no such root lies half-way between two float16. */
static inline uint16_t magnitude_bits(const uint8_t *grey, Py_ssize_t stride)
{
    const uint8_t *above = grey - stride, *below = grey + stride;
    int dx = above[1] - above[-1] + 2 * (grey[1] - grey[-1]) + below[1] - below[-1];
    int dy = below[-1] - above[-1] + 2 * (below[0] - above[0]) + below[1] - above[1];
    float root = sqrtf((float)(dx * dx + dy * dy)) * 0x1p-112f;
    uint32_t bits;
    memcpy(&bits, &root, sizeof bits);
    return (uint16_t)((bits + 0x1000u) >> 13);
}

/* Repeat the outermost pixels in the padding, as OpenCV's BORDER_REPLICATE does. */
static void replicate_border(uint8_t *plane, Py_ssize_t height, Py_ssize_t width)
{
    Py_ssize_t stride = width + 2;
    for (Py_ssize_t i = 1; i <= height; i++) {
        uint8_t *row = plane + i * stride;
        row[0] = row[1];
        row[width + 1] = row[width];
    }
    memcpy(plane, plane + stride, (size_t)stride);
    memcpy(plane + (height + 1) * stride, plane + height * stride, (size_t)stride);
}

/* Put the places of a row's strong pixels on the stack; returns its new height. */
static Py_ssize_t push_strong(const uint8_t *kind, Py_ssize_t width, uint32_t first, uint32_t *stack, Py_ssize_t top)
{
    Py_ssize_t j = 0;
    for (; j + 8 <= width; j += 8) {
        uint64_t eight;
        memcpy(&eight, kind + j, sizeof eight);
        if (eight & 0x0202020202020202u)
            for (Py_ssize_t k = j; k < j + 8; k++) {
                stack[top] = first + (uint32_t)k;
                top += kind[k] == STRONG;
            }
    }
    for (; j < width; j++)
        if (kind[j] == STRONG)
            stack[top++] = first + (uint32_t)j;
    return top;
}

/* Where the parts of the workspace begin, in bytes, each on a line of the cache. */
typedef struct {
    Py_ssize_t kinds, rows, row_bytes, stack, total;
} Layout;

static Py_ssize_t aligned(Py_ssize_t bytes) { return (bytes + 63) & ~(Py_ssize_t)63; }

static Layout layout_of(Py_ssize_t height, Py_ssize_t width)
{
    Layout at;
    at.kinds = 0;
    at.rows = aligned((height + 2) * (width + 2));
    at.row_bytes = aligned(2 * (width + 2) + 64);
    at.stack = at.rows + 9 * at.row_bytes;
    at.total = at.stack + aligned(4 * (height * width + 8));
    return at;
}

static void field_of(uint8_t *grey, Py_ssize_t height, Py_ssize_t width, uint16_t *out, Py_ssize_t out_stride,
                     uint16_t low, uint16_t high, uint8_t *work)
{
    const Layout at = layout_of(height, width);
    const Py_ssize_t stride = width + 2;
    uint8_t *kinds = work + at.kinds;
    uint32_t *stack = (uint32_t *)(work + at.stack);
    int16_t *row[9];
    for (int k = 0; k < 9; k++) {
        /* Column 0 is on a line of the cache, and column -1 just before it. */
        row[k] = (int16_t *)(work + at.rows + k * at.row_bytes + 64);
        memset((uint8_t *)row[k] - 64, 0, (size_t)at.row_bytes);
    }
    Rows rows = {row[0], row[1], {row[2], row[3]}, {row[4], row[5]},
                 {(uint16_t *)row[6], (uint16_t *)row[7], (uint16_t *)row[8]}};

    replicate_border(grey, height, width);
    memset(kinds, NOTHING, (size_t)stride);
    memset(kinds + (height + 1) * stride, NOTHING, (size_t)stride);
    Py_ssize_t top = 0;
    for (Py_ssize_t i = 0; i <= height; i++) {
        uint16_t *norm = rows.norm[i % 3], *before = rows.norm[(i + 2) % 3], *two_before = rows.norm[(i + 1) % 3];
        if (i < height) {
            const uint8_t *here = grey + (i + 1) * stride + 1;
            gradient_row(here - stride, here, here + stride, width, rows.smooth, rows.slope, rows.dx[i % 2],
                         rows.dy[i % 2], norm);
        } else {
            memset(norm, 0, (size_t)width * sizeof *norm); /* there is nothing below the last row */
        }
        if (i > 0) {
            uint8_t *kind = kinds + i * stride + 1;
            thin_row(rows.dx[(i + 1) % 2], rows.dy[(i + 1) % 2], two_before, before, norm, width, low, high, kind);
            kind[-1] = kind[width] = NOTHING;
            top = push_strong(kind, width, (uint32_t)(i * stride + 1), stack, top);
        }
    }

    for (Py_ssize_t i = 0; i < height; i++)
        memset(out + i * out_stride, 0, (size_t)width * sizeof *out);
    const Py_ssize_t around[8] = {-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1};
    while (top > 0) {
        uint32_t place = stack[--top];
        Py_ssize_t i = place / (uint32_t)stride, j = place - i * stride;
        out[(i - 1) * out_stride + j - 1] = magnitude_bits(grey + place, stride);
        uint8_t *kind = kinds + place;
        for (int k = 0; k < 8; k++)
            if (kind[around[k]] == WEAK) {
                kind[around[k]] = STRONG;
                stack[top++] = (uint32_t)(place + around[k]);
            }
    }
}

static PyObject *workspace_bytes(PyObject *module, PyObject *args)
{
    Py_ssize_t height, width;
    (void)module;
    if (!PyArg_ParseTuple(args, "nn:workspace_bytes", &height, &width))
        return NULL;
    if (height < 1 || width < 1 || height > (1 << 30) / (width + 2) - 2) {
        PyErr_SetString(PyExc_ValueError, "a picture has 1 pixel or more, and at most 2^30");
        return NULL;
    }
    return PyLong_FromSsize_t(layout_of(height, width).total);
}

static PyObject *edge_field(PyObject *module, PyObject *args)
{
    Py_buffer grey, out, work;
    Py_ssize_t height, width, out_stride, out_first;
    int low, high;
    (void)module;
    if (!PyArg_ParseTuple(args, "w*nnw*nniiw*:edge_field", &grey, &height, &width, &out, &out_first, &out_stride, &low,
                          &high, &work))
        return NULL;
    int fits = height >= 1 && width >= 1 && height <= (1 << 30) / (width + 2) - 2 &&
               grey.len == (height + 2) * (width + 2) && work.len >= layout_of(height, width).total &&
               out_first >= 0 && out_stride >= width && out_stride <= (1 << 30) && out_first <= (1 << 30) &&
               out.len >= 2 * (out_first + (height - 1) * out_stride + width) &&
               (uintptr_t)out.buf % 2 == 0 && (uintptr_t)work.buf % 4 == 0 && low >= 0 && high >= low && high <= 2040;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        field_of(grey.buf, height, width, (uint16_t *)out.buf + out_first, out_stride, (uint16_t)low, (uint16_t)high,
                 work.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&grey);
    PyBuffer_Release(&out);
    PyBuffer_Release(&work);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "buffers, sizes or thresholds do not fit together");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"workspace_bytes", workspace_bytes, METH_VARARGS, "workspace_bytes(height, width): bytes that edge_field needs."},
    {"edge_field", edge_field, METH_VARARGS,
     "edge_field(grey, height, width, out, out_first, out_stride, low, high, work): write one picture's field."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_edges", "Gradient fields of grey pictures, compiled.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__edges(void) { return PyModule_Create(&definition); }
