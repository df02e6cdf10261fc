/* SPDX-License-Identifier: Apache-2.0
 *
 * edgefl C core: the only public header.
 *
 * Contract: every function here, training included, gives bit-identical results on every instruction set and
 * with any number of threads. Nothing allocates, reads a clock, a file or entropy, or sets errno, and only
 * efl_threads_set starts threads; the caller owns all memory and every kernel that needs scratch has a
 * *_scratch_bytes() twin. Pointers must not be null unless said so.
 * Everything between the two cdef marks is parsed by cffi as it is: plain C declarations, no preprocessor
 * there except `#define NAME integer`.
 */
#ifndef EDGEFL_H
#define EDGEFL_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
/* cdef begin */

/* ---------------------------------------------------------------- status: csrc/core/status.c */

typedef int32_t efl_status;

#define EFL_OK 0
/* 10..19: arguments */
#define EFL_E_SHAPE 10 /* a dimension is 0, negative or above its limit, or shapes do not fit each other */
#define EFL_E_RANGE 11 /* a number is outside its documented range */
#define EFL_E_NULL 12  /* a pointer that must be given is null */
#define EFL_E_SIZE 13  /* a buffer or scratch area is too small */
/* 20..29: models */
#define EFL_E_OP 20    /* an operator kind that this build does not know */
#define EFL_E_SCALE 21 /* a scale is not finite, not positive, or a requantisation scale is 256 or more */
/* 30..39: secret data */
#define EFL_E_AUTH 30 /* a share, tag or canary does not check */

/* One line for each code, without a newline; never null. */
const char *efl_status_text(efl_status status);

/* ---------------------------------------------------------------- instruction sets: csrc/core/init.c */

#define EFL_ISA_REF 0 /* scalar C */
#define EFL_ISA_AVX2 1
#define EFL_ISA_AVX512VNNI 2 /* with F, BW, DQ and VL */
#define EFL_ISA_NEON 3
#define EFL_ISA_AVXVNNI 4 /* 256 bits; also where only AVX512-VNNI can run them */
#define EFL_ISA_DOTPROD 5 /* aarch64, with NEON */
#define EFL_ISA_I8MM 6    /* with DOTPROD */
#define EFL_ISA_COUNT 7

/* Choose the fastest kernels of this machine; without it the scalar ones run. */
void efl_init(void);
/* Bit 1 << EFL_ISA_* for each set that runs here. */
uint32_t efl_isa_supported(void);
int32_t efl_isa_current(void);
const char *efl_isa_name(int32_t isa);
/* For tests: use these kernels from now on. EFL_E_RANGE if they do not run here. Not while a call is running.
 */
efl_status efl_isa_select(int32_t isa);

/* ---------------------------------------------------------------- threads: csrc/core/threads.c */

#define EFL_THREADS_MAX 16

/* Have n - 1 threads ready beside the calling one, for plans with threads > 1: more are started if there are
 * fewer, 1 ends them all. They sleep between calls. A forked child has none until it calls this itself.
 * EFL_E_RANGE outside 1..EFL_THREADS_MAX or while a call is running in them, EFL_E_SIZE if the system gives
 * no more. */
efl_status efl_threads_set(int32_t n);

/* ---------------------------------------------------------------- secagg section (csrc/secagg)
 * A ring vector is uint16 (width W = 16) or uint32 (W = 32) [n], n <= EFL_RING_MAX, numbers mod 2^W.
 * Time depends on lengths, widths and signs only, never on seeds or vectors.
 */

#define EFL_RING_MAX 268435456 /* 2^28 coordinates */

/* out [out_bytes] <- ChaCha20 key stream (RFC 8439) of key [32], nonce [12], from block `counter` on.
 * EFL_E_RANGE if the 32-bit block counter would wrap. */
efl_status efl_chacha20_stream(uint8_t *out, size_t out_bytes, const uint8_t *nonce, uint32_t counter,
                               const uint8_t *key);

/* ring [n_ring] += or -= PRG(seed) for each of seeds [n_seeds][32] with its signs [n_seeds] in {-1, +1}, mod
 * 2^W. PRG(seed) is the ChaCha20 stream of that key, nonce 0, counter 0, as little-endian W-bit words. */
efl_status efl_mask_expand(void *ring, const int8_t *signs, size_t n_ring, size_t n_seeds, uint32_t width,
                           const uint8_t *seeds);

/* payload [ceil(n*bits/8)] <- the low `bits` (1..W) bits of each coordinate, least significant first, zero
 * padding. */
efl_status efl_ring_pack(uint8_t *payload, const void *ring, size_t payload_bytes, size_t n, uint32_t width,
                         uint32_t bits);

/* The reverse, written (values 0 .. 2^bits - 1) or added mod 2^W. EFL_E_SIZE for any other payload_bytes,
 * EFL_E_RANGE for a non-zero padding bit; ring is untouched then. A long payload may come in pieces of a
 * multiple of 8 coordinates. */
efl_status efl_ring_unpack(void *ring, const uint8_t *payload, size_t payload_bytes, size_t n, uint32_t width,
                           uint32_t bits);
efl_status efl_ring_unpack_add(void *ring, const uint8_t *payload, size_t payload_bytes, size_t n,
                               uint32_t width, uint32_t bits);

/* sum [n] += term [n] mod 2^W. */
efl_status efl_ring_add(void *sum, const void *term, size_t n, uint32_t width);

/* out [n] int64 <- the low `bits` (1..W) bits of each coordinate as a two's complement number. */
efl_status efl_ring_unwrap_i64(int64_t *out, const void *ring, size_t n, uint32_t width, uint32_t bits);

/* ---------------------------------------------------------------- dp section (csrc/dp) */

#define EFL_SCALE_MAX 1048576             /* S <= 2^20 */
#define EFL_VALUE_BITS_MAX 24             /* b <= 24 */
#define EFL_NORM2_MAX 4611686018427387904 /* D^2 <= 2^62 */

typedef struct {
    uint32_t clip;      /* C, in the delta's units, at least 1 */
    uint32_t scale;     /* S: norm C becomes S, 1 .. EFL_SCALE_MAX */
    uint32_t bits;      /* b: |q_i| <= 2^(b-1) - 1, 2 .. EFL_VALUE_BITS_MAX */
    uint64_t norm2_max; /* D^2, at most EFL_NORM2_MAX */
} efl_encode_params;

/* norm <- the smallest integer N with N^2 >= sum x_i^2; x [n] int32, any values, n <= EFL_RING_MAX. */
efl_status efl_delta_norm_i32(uint64_t *norm, const int32_t *x, size_t n);

/* q [n] int32 <- x [n] int32 clipped to norm C, times S/C, rounded stochastically from seed [32], saturated
 * to b bits, with sum q_i^2 <= D^2 exactly: up to 32 tries, then S shrinks by 1 - 2^-8, at most 64 times.
 * EFL_E_RANGE if the parameters are out of range or the bound cannot be met; q holds zeros then. */
efl_status efl_delta_encode_i32(int32_t *q, const int32_t *x, size_t n, const efl_encode_params *p,
                                const uint8_t *seed);

/* ---------------------------------------------------------------- nn section (csrc/core, csrc/nn, csrc/arch)
 */

/* Operators; the numbers are those of edgefl/model/graph.py and are never reused. */
#define EFL_OP_CONV2D 1
#define EFL_OP_DWCONV2D 2
#define EFL_OP_DENSE 3
#define EFL_OP_AVGPOOL 4
#define EFL_OP_MAXPOOL 5
#define EFL_OP_MEAN 6
#define EFL_OP_ADD 7
#define EFL_OP_SOFTMAX 8
#define EFL_OP_COPY 9
#define EFL_OP_PAD 10
#define EFL_OP_REQUANT 11
#define EFL_OP_BINARY 20
#define EFL_OP_TABLE 21
#define EFL_OP_MOVE 22
#define EFL_OP_LSTM 40
#define EFL_OP_SVDF 41

/* Products that one int32 sum may hold: 65536 * 255 * 128 < 2^31. */
#define EFL_TERMS_MAX 65536

/* Shapes of one operator, NHWC, n samples one after another. A dense layer reads hi*wi*ci and writes co
 * numbers; an operator without a kernel leaves kh.. at 1. */
typedef struct {
    int32_t n;
    int32_t hi, wi, ci, ho, wo, co;
    int32_t kh, kw, sh, sw, dh, dw; /* kernel, stride, dilation */
    int32_t pt, pl;                 /* padding rows above, columns left */
    int32_t groups;                 /* CONV2D */
    int32_t mult;                   /* DWCONV2D: co = ci * mult */
    int32_t w_zero;                 /* zero point of the weights: 0 but in models that were uint8 */
} efl_dims;

/* EFL_E_SHAPE unless the shapes fit the operator and its limits: sizes below 2^30, at most 65536 products a
 * sum. */
efl_status efl_dims_check(const efl_dims *d, int32_t kind);

/* A multiplier of the gemmlowp rule: m * 2^(shift - 31), m in 0..2^31-1, shift in -31..30. */
typedef struct {
    int32_t m, shift;
} efl_fixed;

/* How int32 sums become int8: clamp(acc * mult[c], lo - y_zero, hi - y_zero) in float32, round to nearest
 * even, add y_zero (XNNPACK's rule). lo and hi include the fused activation. */
typedef struct {
    const float *mult;      /* [co] or, if n_mult is 1, one for all */
    const efl_fixed *fixed; /* likewise: the gemmlowp rule instead of this one; or null */
    int32_t n_mult;
    int32_t x_zero, y_zero, lo, hi;
} efl_requant_params;

/* Packed weights: what the forward passes of CONV2D, DWCONV2D and DENSE read, made from w, b, rq->mult and
 * rq->x_zero; the same bytes on every instruction set. pack makes it in packed [packed_bytes], aligned to 4;
 * fold brings it up to date when only b changed. */
size_t efl_conv2d_i8_packed_bytes(const efl_dims *d);
size_t efl_dwconv2d_i8_packed_bytes(const efl_dims *d);
size_t efl_dense_i8_packed_bytes(const efl_dims *d);
void efl_conv2d_i8_pack(void *packed, const int8_t *w, const int32_t *b, const efl_dims *d,
                        const efl_requant_params *rq);
void efl_dwconv2d_i8_pack(void *packed, const int8_t *w, const int32_t *b, const efl_dims *d,
                          const efl_requant_params *rq);
void efl_dense_i8_pack(void *packed, const int8_t *w, const int32_t *b, const efl_dims *d,
                       const efl_requant_params *rq);
void efl_conv2d_i8_fold(void *packed, const int32_t *b, const efl_dims *d, const efl_requant_params *rq);
void efl_dwconv2d_i8_fold(void *packed, const int32_t *b, const efl_dims *d, const efl_requant_params *rq);
void efl_dense_i8_fold(void *packed, const int32_t *b, const efl_dims *d, const efl_requant_params *rq);

/* Convolution. x [n,hi,wi,ci], w [co,kh,kw,ci/groups], b [co], y [n,ho,wo,co]. Padding holds the zero point.
 * bwd_x: dx int32 [n,hi,wi,ci] <- sums of e*w, e int8 in -127..127 (already times the weight's scale).
 * bwd_w: dw int32 [co,kh,kw,ci/groups] <- sums of e*(x - x_zero); at most 65536 pixels in all n samples. dims
 * must have passed efl_dims_check; scratch has the size that the twin says, any alignment of 16. */
void efl_conv2d_i8_fwd(int8_t *y, const int8_t *x, const void *packed, const efl_dims *d,
                       const efl_requant_params *rq, void *scratch);
void efl_conv2d_i8_bwd_x(int32_t *dx, const int8_t *e, const int8_t *w, const efl_dims *d, void *scratch);
void efl_conv2d_i8_bwd_w(int32_t *dw, const int8_t *e, const int8_t *x, const efl_dims *d, int32_t x_zero,
                         void *scratch);
size_t efl_conv2d_i8_fwd_scratch_bytes(const efl_dims *d);
size_t efl_conv2d_i8_bwd_x_scratch_bytes(const efl_dims *d);
size_t efl_conv2d_i8_bwd_w_scratch_bytes(const efl_dims *d);

/* Depthwise convolution, w [kh,kw,co], co = ci*mult, otherwise the same. dw int32 [kh,kw,co]. */
void efl_dwconv2d_i8_fwd(int8_t *y, const int8_t *x, const void *packed, const efl_dims *d,
                         const efl_requant_params *rq, void *scratch);
void efl_dwconv2d_i8_bwd_x(int32_t *dx, const int8_t *e, const int8_t *w, const efl_dims *d, void *scratch);
void efl_dwconv2d_i8_bwd_w(int32_t *dw, const int8_t *e, const int8_t *x, const efl_dims *d, int32_t x_zero,
                           void *scratch);
size_t efl_dwconv2d_i8_fwd_scratch_bytes(const efl_dims *d);
size_t efl_dwconv2d_i8_bwd_x_scratch_bytes(const efl_dims *d);
size_t efl_dwconv2d_i8_bwd_w_scratch_bytes(const efl_dims *d);

/* Dense layer, w [co, hi*wi*ci]: a 1x1 convolution whose pixels are the samples. */
void efl_dense_i8_fwd(int8_t *y, const int8_t *x, const void *packed, const efl_dims *d,
                      const efl_requant_params *rq, void *scratch);
void efl_dense_i8_bwd_x(int32_t *dx, const int8_t *e, const int8_t *w, const efl_dims *d, void *scratch);
void efl_dense_i8_bwd_w(int32_t *dw, const int8_t *e, const int8_t *x, const efl_dims *d, int32_t x_zero,
                        void *scratch);
size_t efl_dense_i8_fwd_scratch_bytes(const efl_dims *d);
size_t efl_dense_i8_bwd_x_scratch_bytes(const efl_dims *d);
size_t efl_dense_i8_bwd_w_scratch_bytes(const efl_dims *d);

/* Pools count only elements inside the map; the fused activation is in lo, hi. Backward results are int32;
 * those of the two averages have 15 + ceil(log2 of the window) extra fraction bits. */
void efl_avgpool_i8_fwd(int8_t *y, const int8_t *x, const efl_dims *d, int32_t lo, int32_t hi);
void efl_avgpool_i8_bwd_x(int32_t *dx, const int8_t *e, const efl_dims *d);
void efl_maxpool_i8_fwd(int8_t *y, const int8_t *x, const efl_dims *d, int32_t lo, int32_t hi);
void efl_maxpool_i8_bwd_x(int32_t *dx, const int8_t *e, const int8_t *x, const efl_dims *d);
void efl_mean_i8_fwd(int8_t *y, const int8_t *x, const efl_dims *d, const efl_requant_params *rq);
void efl_mean_i8_bwd_x(int32_t *dx, const int8_t *e, const efl_dims *d);

void efl_pad_i8_fwd(int8_t *y, const int8_t *x, const efl_dims *d, int32_t zero);
void efl_pad_i8_bwd_x(int8_t *dx, const int8_t *e, const efl_dims *d);
/* y <- clamp((((x - x_zero) * mult + 128) >> 8) + y_zero), mult = rne(256 * s_x / s_y), at most 2^15;
 * y may be x */
void efl_requant_i8_fwd(int8_t *y, const int8_t *x, size_t n, int32_t mult, int32_t x_zero, int32_t y_zero);

/* y = clamp(((m0*a + m1*b + bias) >> shift) + zero); m below 2^21, bias = half a unit - m0*a_zero -
 * m1*b_zero, shift 13..30 */
typedef struct {
    int32_t m0, m1, bias, shift, zero, lo, hi;
} efl_add_params;
/* y may be a or b. */
void efl_add_i8_fwd(int8_t *y, const int8_t *a, const int8_t *b, size_t n, const efl_add_params *p);

/* Two operands, each repeated where it has a stride of 0 (broadcasting): the result runs over n [EFL_AXES],
 * outermost first, an operand over its own elements; the innermost strides are 0 or 1. */
#define EFL_AXES 4
#define EFL_BINARY_LINEAR 0 /* ADD and SUB: efl_add_params, whose m0, m1 may be negative */
#define EFL_BINARY_MUL 1    /* rne(clamp((a - a_zero) * (b - b_zero) * scale)) + y_zero, in float32 */
#define EFL_BINARY_MIN 2    /* of the stored values; an error goes to the smaller one, to a where equal */
#define EFL_BINARY_MAX 3
typedef struct {
    int32_t rule;
    int32_t n[EFL_AXES], a[EFL_AXES], b[EFL_AXES];
    int32_t a_size, b_size; /* elements of the operands, of one sample */
    int32_t a_zero, b_zero;
    float a_scale, b_scale;
    float scale;              /* MUL: a_scale * b_scale / y_scale */
    int32_t minus_a, minus_b; /* LINEAR: the operand is subtracted */
    const int8_t *constant;   /* [b_size]: operand b of every sample; or null */
    const efl_fixed *fixed;   /* LINEAR [3]: a, b and result; MUL [1]: the gemmlowp rule; or null */
} efl_binary;

typedef struct {
    float scale;
    int32_t a_zero, b_zero, y_zero, lo, hi;
} efl_mul_params;

/* y [samples][n..] <- rule of a [samples][a_size] and b [samples][b_size], or [b_size] if it is a constant;
 * lo, hi: the fused activation. */
void efl_binary_i8_fwd(int8_t *y, const int8_t *a, const int8_t *b, int32_t samples, const efl_binary *p,
                       const efl_add_params *linear, int32_t y_zero, int32_t lo, int32_t hi);
/* dx int32 [samples][a_size], or b_size if `second` <- sums of e times the rule's factor: 1 (LINEAR, MIN, MAX
 * where it is the one taken) or the other operand minus its zero point (MUL). */
void efl_binary_i8_bwd_x(int32_t *dx, const int8_t *e, const int8_t *a, const int8_t *b, int32_t samples,
                         const efl_binary *p, int32_t second);

/* A function of one value: results [n_tables][256] for q = -128..127, slopes likewise, in units of 2^k;
 * n_tables is 1 or the number of channels. */
typedef struct {
    const int8_t *values;
    const int16_t *slopes;
    int32_t n_tables, k;
} efl_table;
/* n elements, a multiple of n_tables; y may be x. dx <- e * slope. */
void efl_table_i8_fwd(int8_t *y, const int8_t *x, size_t n, const efl_table *t);
void efl_table_i8_bwd_x(int32_t *dx, const int8_t *e, const int8_t *x, size_t n, const efl_table *t);
/* The gemmlowp rule of the operators without weights that round, in plain C: round(acc * m * 2^(shift - 31))
 * by a doubling high product (ties upward) and a rounding shift (half away from zero), then add y_zero and
 * clamp. */
void efl_mean_i8_fwd_fixed(int8_t *y, const int8_t *x, const efl_dims *d, const efl_requant_params *rq);
void efl_requant_i8_fwd_fixed(int8_t *y, const int8_t *x, size_t n, const efl_requant_params *rq);
/* y [n] <- sum (LINEAR, 20 more bits in between) or product (MUL) of a and b; p: rule, zero points, signs,
 * fixed.
 */
void efl_combine_i8_fwd_fixed(int8_t *y, const int8_t *a, const int8_t *b, size_t n, const efl_binary *p,
                              int32_t y_zero, int32_t lo, int32_t hi);

/* One input's part of a result that only moves values: over n [EFL_AXES], outermost first, runs of `run`
 * elements go from the sum of the axes' offsets in the input to y_start plus the axes' strides in the
 * result. */
typedef struct {
    int32_t in, edge; /* the plan's tensor, and the edge of its error; -1: not wanted */
    int32_t n[EFL_AXES], y[EFL_AXES];
    int32_t y_start, run;
    int32_t once;      /* 1: no element of the input is read twice */
    const int32_t *at; /* [n[0] + n[1] + ..] offsets, axis after axis */
} efl_move_part;

typedef struct {
    const efl_move_part *parts;
    int32_t n_parts;
    int32_t fill; /* what no part covers; -129: the parts cover everything */
} efl_move;

/* One sample: y <- the part's runs of x; dx <- the error of these runs (of all else nothing); sums: dx += it.
 */
void efl_move_i8_fwd(int8_t *y, const int8_t *x, const efl_move_part *p);
void efl_move_i8_bwd_x(int8_t *dx, const int8_t *e, const efl_move_part *p);
void efl_move_i8_bwd_x_sums(int32_t *dx, const int8_t *e, const efl_move_part *p);

/* exp(-d * scale * beta), d = 0..255: powers [256] in double for the forward pass, table [256] in units of
 * 2^-24 for the loss. Either may be null. */
void efl_softmax_tables(double *powers, uint32_t *table, float scale, float beta);
/* y [n,c] <- rne(256 p) - 128 */
void efl_softmax_i8_fwd(int8_t *y, const int8_t *x, int32_t n, int32_t c, const double *powers);

/* Numbers of one LSTM over d.wi time steps of d.ci values, with d.co cells. Gates: input, forget, cell,
 * output.
 */
typedef struct {
    efl_fixed in[4], back[4]; /* input sums and recurrent sums of each gate to Q3.12 */
    efl_fixed out;            /* product of output gate and tanh of the cell, 2^-30, to y */
    int32_t cell_bits;        /* a cell is c * 2^-cell_bits, 9..15 */
    int32_t clip;             /* cells stay within +-clip, 1..32767; 0: no such bound */
    int32_t truncate;         /* errors go back through at most so many steps, 1..d.wi */
} efl_lstm;

/* Numbers of one SVDF over d.ci values, with d.co units of `rank` filters each. */
typedef struct {
    const int8_t *feature; /* [filters][d.ci] */
    const int16_t *time;   /* [filters][memory] */
    const int32_t *bias;   /* [d.co] */
    int32_t filters, memory, rank;
    int32_t memory_lo, memory_hi; /* bounds of what the memory keeps */
    efl_fixed in, out;            /* feature sums to the memory, the sums over it to y */
} efl_svdf;

/* An error tensor: value = e * 2^k in units of the loss; live is 0 where e is all zero (k means nothing
 * then). */
typedef struct {
    int8_t *e;
    int32_t k, live;
} efl_error;

/* float [n] -> int8 with its own exponent. */
void efl_error_from_f32(efl_error *out, const float *x, size_t n);
/* int32 [n], in units of 2^k -> int8 with its own exponent. */
void efl_error_from_i32(efl_error *out, const int32_t *x, size_t n, int32_t k);
#define EFL_FAN_OUT_MAX 16
/* Sum of n_in <= EFL_FAN_OUT_MAX errors of n elements each; out may be the first of them. */
void efl_error_merge(efl_error *out, const efl_error *in, int32_t n_in, size_t n);

/* Weights and bias of one operator, and how they train. co channels, len weights. */
typedef struct {
    int8_t *q;  /* [len] */
    int8_t *r;  /* [len] residuals, q + r/256 is the weight; null if shadow is none or weights are frozen */
    int32_t *b; /* [co] */
    int8_t *rb; /* [co] residuals of b, likewise */
    const float *scales; /* [n_scales] of the weights */
    const float *mult;   /* [n_scales] requantisation */
    const uint8_t *dead; /* [co] 1: this channel never trains; or null */
    int64_t *acc_w; /* [len] sums over micro-batches; null if a batch is one micro-batch of <= 65536 pixels */
    int64_t *acc_b; /* [co] with acc_w or trained bias, likewise */
    const uint8_t *keys; /* [2][32] ChaCha20 keys of this step's stochastic rounding; null: residuals */
    int32_t n_scales, co, len, qmin;
    int32_t q_zero; /* a weight is q - q_zero: 0 but in models that were uint8 */
    int32_t train_w, train_b;
    float rate;                                /* of the weights: below 1 for an input layer only */
    int32_t acc_k, acc_live;                   /* state of the sums; 0, 0 at first */
    int32_t shift;                             /* last step's cap */
    int64_t steps, capped, moved;              /* steps, steps that were capped, steps with any non-zero v */
    int64_t saturated_w, saturated_b, clamped; /* elements, over all steps */
} efl_param;

/* LSTM. x [n,wi,ci], y [n,wi,co]; p [8]: the four input weights [co,ci] with biases, the four recurrent
 * weights [co,co]. saved: null, or efl_lstm_saved_bytes for the backward pass; keep: whether it is given. */
void efl_lstm_i8_fwd(int8_t *y, int16_t *saved, const int8_t *x, const efl_param *p, const efl_dims *d,
                     const efl_lstm *m, int32_t x_zero, int32_t y_zero, void *scratch);
size_t efl_lstm_i8_fwd_scratch_bytes(const efl_dims *d, int32_t keep);
size_t efl_lstm_saved_bytes(const efl_dims *d);
#define EFL_LSTM_BYTES 12 /* of these for each number of y */

/* SVDF. x [n,ci], y [n,co]; memory [filters][memory] goes on from call to call and starts at 0. */
void efl_svdf_i8_fwd(int8_t *y, int16_t *memory, const int8_t *x, const efl_dims *d, const efl_svdf *m,
                     int32_t x_zero, int32_t y_zero, void *scratch);
size_t efl_svdf_i8_fwd_scratch_bytes(const efl_dims *d, const efl_svdf *m);

typedef struct {
    float lr;
    int32_t n;    /* samples of the whole batch */
    uint64_t cap; /* K = round(1 / step_cap^2) */
    int32_t last; /* 0: only sum up, another micro-batch of this batch follows */
} efl_step;

/* One activation tensor of a plan; n samples lie one after another at arena + offset. */
typedef struct {
    int64_t offset;
    int32_t size; /* elements of one sample */
    int32_t zero;
    float scale;
} efl_tensor;

/* The error of one input of one operator on its way to the operator that made this input. */
typedef struct {
    int64_t offset; /* in the arena, n * size bytes */
    int32_t k, live;
} efl_edge;

typedef struct {
    int32_t kind;
    int32_t in0, in1, out;    /* tensors; in1 is -1 except for ADD, BINARY */
    int32_t param;            /* -1: none; LSTM: the first of eight */
    int32_t edges, n_edges;   /* error of `out`: these adjacent edges; n_edges 0: no backward pass here */
    int32_t edge0, edge1;     /* where the errors of in0 and in1 go; -1: not wanted */
    int32_t mask_lo, mask_hi; /* bounds of the fused activation where e becomes 0; -129 and 128: none */
    int32_t lo, hi;           /* clamp of the output */
    int32_t u8;           /* 1: the file holds uint8, 128 more than here: decides ties of AVGPOOL and MEAN */
    float ratio;          /* MEAN: (s_x / s_y) * (1 / pixels) */
    efl_add_params add;   /* ADD; REQUANT: m0 */
    efl_dims dims;        /* n is ignored */
    const double *powers; /* SOFTMAX */
    void *packed;         /* CONV2D, DWCONV2D, DENSE: memory for packed weights; null: packed at each call */
    int64_t packed_bytes;
    const efl_binary *binary; /* BINARY; LINEAR has its numbers in add */
    const efl_table *table;   /* TABLE */
    const efl_fixed *fixed; /* the gemmlowp rule: [n_scales] of weights; ADD [3]: a, b, result; MEAN, REQUANT
                               [1]; null: XNNPACK's rule */
    const efl_move *move;   /* MOVE; its edges stand in its parts */
    const efl_lstm *lstm;   /* LSTM */
    const efl_svdf *svdf;   /* SVDF */
    int64_t state;          /* place in the arena of what LSTM saves (-1: nothing), of SVDF's memory */
} efl_op;

#define EFL_LOSS_SOFTMAX_CE 1
#define EFL_LOSS_BCE 2
#define EFL_LOSS_MSE 3
#define EFL_LOSS_KL 4
#define EFL_LOSS_GRID 5
#define EFL_BOXES_MAX 256 /* boxes of a sample */

/* One tensor that the loss looks at, [h,w,c]. */
typedef struct {
    int32_t tensor;
    int32_t edge; /* where its error goes; -1: only the report wants it */
    int32_t h, w, c;
    const uint32_t *table; /* efl_softmax_tables of its scale */
} efl_head;

/* What training drives down. One head, except for GRID. */
typedef struct {
    int32_t kind;    /* EFL_LOSS_* */
    int32_t n_heads; /* 0: inference only */
    const efl_head *heads;
    const float *weights; /* SOFTMAX_CE, BCE: [c] factors of the loss; or null */
    const float *anchors; /* GRID: [n_heads][n_anchors][2] width and height in 0..1 of the image */
    int32_t n_anchors;
} efl_loss;

/* What the outputs should have been. */
typedef struct {
    const int32_t *labels; /* SOFTMAX_CE: [n] */
    const float *values;   /* BCE, KL: [n,c] in 0..1; MSE: [n,h,w,c]; GRID: [n,n_boxes,5] */
    const int8_t *stored;  /* MSE if values is null: [n,h,w,c], the value is scale * (stored - zero) */
    float scale;
    int32_t zero, n_boxes;
} efl_target;

/* What the model gave before the step, added up over samples. */
typedef struct {
    double loss;
    int64_t hits, terms; /* hits of `terms` answers were right; terms stays 0 for MSE */
} efl_outcome;

/* A model and the memory it runs in; all arrays belong to the caller. */
typedef struct {
    const efl_tensor *tensors;
    const efl_op *ops;
    efl_param *params;
    efl_edge *edges;
    int32_t n_tensors, n_ops, n_params, n_edges;
    int32_t n_max;   /* samples of a call */
    int32_t threads; /* that a call may use, up to EFL_THREADS_MAX (0 is 1); scratch grows with them */
    int32_t input;   /* tensor that is read where the caller has it; -1: inputs lie in the arena */
    int8_t *arena;
    int64_t arena_bytes;
    void *scratch;
    int64_t scratch_bytes;
    efl_loss loss;
} efl_plan;

/* Scratch that forward and, if any operator has edges, backward need; 0 if the shapes are out of range. */
int64_t efl_plan_scratch_bytes(const efl_plan *plan);
/* Bytes of an operator's packed weights; 0 if it has none. */
int64_t efl_op_packed_bytes(const efl_op *op);
/* Everything that could make a run read or write outside its memory. Call it once after filling a plan. */
efl_status efl_plan_check(const efl_plan *plan);
/* Pack the weights of every operator that brings memory for it: after efl_plan_check, and again whenever
 * weights of such an operator have changed. A bias that trains is followed by itself. */
void efl_plan_pack(const efl_plan *plan);
/* Run operators first..last-1 on n samples x [n][input size]. */
efl_status efl_plan_forward(const efl_plan *plan, const int8_t *x, int32_t n, int32_t first, int32_t last);
/* Losses: error float32 [n,h,w,c] <- d loss / d y of head `head`, y int8 [n,h,w,c]; seen is added to. The
 * formulas are in docs/training.md, "Losses". EFL_E_RANGE for a target out of range, NaN included. */
efl_status efl_softmax_ce_i8(float *error, efl_outcome *seen, const int8_t *y, const efl_tensor *t,
                             const efl_loss *loss, int32_t head, const efl_target *target, int32_t n);
efl_status efl_kl_i8(float *error, efl_outcome *seen, const int8_t *y, const efl_tensor *t,
                     const efl_loss *loss, int32_t head, const efl_target *target, int32_t n);
efl_status efl_bce_i8(float *error, efl_outcome *seen, const int8_t *y, const efl_tensor *t,
                      const efl_loss *loss, int32_t head, const efl_target *target, int32_t n);
efl_status efl_mse_i8(float *error, efl_outcome *seen, const int8_t *y, const efl_tensor *t,
                      const efl_loss *loss, int32_t head, const efl_target *target, int32_t n);
efl_status efl_grid_i8(float *error, efl_outcome *seen, const int8_t *y, const efl_tensor *t,
                       const efl_loss *loss, int32_t head, const efl_target *target, int32_t n);

/* Forward and loss, nothing changes. */
efl_status efl_plan_score(const efl_plan *plan, efl_outcome *seen, const int8_t *x, const efl_target *target,
                          int32_t n);
/* Forward, loss, backward, and, if step->last, the update of every trained parameter. target is that of the n
 * samples; seen <- what the model gave before. */
efl_status efl_plan_train(const efl_plan *plan, efl_outcome *seen, const int8_t *x, const efl_target *target,
                          int32_t n, const efl_step *step);

/* cdef end */
#ifdef __cplusplus
}
#endif
#endif
