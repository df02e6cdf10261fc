/* SPDX-License-Identifier: Apache-2.0
 *
 * The loss of a micro-batch: float32 errors of each head in scratch, then int8 with their own exponent. Which
 * loss is data of the plan. Source: docs/training.md, "Losses".
 */
#include "nn/loss.h"

#include <string.h>

#include "nn/plan.h"

double efl_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, 8);
    int32_t k = (int32_t)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
    double m;
    memcpy(&m, &bits, 8);
    if (m > 1.4142135623730951) {
        m = m * 0.5;
        k++;
    }
    const double s = (m - 1.0) / (m + 1.0), square = s * s;
    double sum = 0.0;
    for (int32_t i = 21; i >= 1; i -= 2) sum = sum * square + 1.0 / i;
    sum = sum * s;
    return k * 0.6931471805599453 + 2.0 * sum;
}

double efl_surprise(float p)
{
    return -efl_log(p < 2.9802322387695312e-08f ? 2.9802322387695312e-08 : (double)p);
}

static int head_ok(const efl_plan *plan, const efl_head *h)
{
    if (h->tensor < 0 || h->tensor >= plan->n_tensors || h->tensor == plan->input || h->h < 1 || h->w < 1 ||
        h->c < 1 || h->edge < -1 || h->edge >= plan->n_edges)
        return 0;
    const efl_tensor *t = &plan->tensors[h->tensor];
    if ((int64_t)h->h * h->w > t->size || (int64_t)h->h * h->w * h->c != t->size) return 0;
    const int64_t bytes = (int64_t)t->size * plan->n_max;
    if (t->offset < 0 || t->offset + bytes > plan->arena_bytes) return 0;
    if (h->edge < 0) return 1;
    const int64_t at = plan->edges[h->edge].offset;
    return at >= 0 && at + bytes <= plan->arena_bytes;
}

efl_status efl_loss_check(const efl_plan *plan)
{
    const efl_loss *loss = &plan->loss;
    if (loss->n_heads == 0) return EFL_OK;
    if (loss->n_heads < 0 || loss->kind < EFL_LOSS_SOFTMAX_CE || loss->kind > EFL_LOSS_GRID ||
        (loss->kind != EFL_LOSS_GRID && loss->n_heads != 1))
        return EFL_E_RANGE;
    if (!loss->heads) return EFL_E_NULL;
    for (int32_t i = 0; i < loss->n_heads; i++) {
        const efl_head *h = &loss->heads[i];
        if (!head_ok(plan, h)) return EFL_E_SIZE;
        if (!h->table && loss->kind != EFL_LOSS_MSE) return EFL_E_NULL;
        const int rows = loss->kind == EFL_LOSS_SOFTMAX_CE || loss->kind == EFL_LOSS_KL;
        if (rows && (h->h != 1 || h->w != 1)) return EFL_E_SHAPE;
        if (loss->kind != EFL_LOSS_GRID) continue;
        if (!loss->anchors) return EFL_E_NULL;
        if (loss->n_anchors < 1 || h->c % loss->n_anchors || h->c / loss->n_anchors < 5 ||
            h->c != loss->heads[0].c)
            return EFL_E_SHAPE;
    }
    return EFL_OK;
}

size_t efl_loss_scratch_bytes(const efl_plan *plan)
{
    int32_t most = 0;
    for (int32_t i = 0; plan->loss.heads && i < plan->loss.n_heads; i++) {
        const int32_t t = plan->loss.heads[i].tensor;
        const int32_t size = t >= 0 && t < plan->n_tensors ? plan->tensors[t].size : 0;
        most = size > most ? size : most;
    }
    return (size_t)plan->n_max * (size_t)most * sizeof(float);
}

static efl_status run_head(float *error, efl_outcome *seen, const efl_plan *plan, int32_t head,
                           const efl_target *target, int32_t n)
{
    const efl_loss *loss = &plan->loss;
    const efl_tensor *t = &plan->tensors[loss->heads[head].tensor];
    const int8_t *y = efl_plan_tensor(plan, loss->heads[head].tensor);
    switch (loss->kind) {
    case EFL_LOSS_SOFTMAX_CE:
        return efl_softmax_ce_i8(error, seen, y, t, loss, head, target, n);
    case EFL_LOSS_BCE:
        return efl_bce_i8(error, seen, y, t, loss, head, target, n);
    case EFL_LOSS_MSE:
        return efl_mse_i8(error, seen, y, t, loss, head, target, n);
    case EFL_LOSS_KL:
        return efl_kl_i8(error, seen, y, t, loss, head, target, n);
    default: /* EFL_LOSS_GRID: efl_loss_check let nothing else pass */
        return efl_grid_i8(error, seen, y, t, loss, head, target, n);
    }
}

/* The errors of all heads go to their edges. */
static efl_status run_loss(const efl_plan *plan, efl_outcome *seen, const efl_target *target, int32_t n)
{
    memset(seen, 0, sizeof *seen);
    for (int32_t i = 0; i < plan->loss.n_heads; i++) {
        const efl_head *h = &plan->loss.heads[i];
        float *error = plan->scratch;
        const efl_status status = run_head(error, seen, plan, i, target, n);
        if (status != EFL_OK) return status;
        if (h->edge < 0) continue;
        efl_edge *edge = &plan->edges[h->edge];
        efl_error e = {plan->arena + edge->offset, 0, 0};
        efl_error_from_f32(&e, error, (size_t)n * (size_t)plan->tensors[h->tensor].size);
        edge->k = e.k;
        edge->live = e.live;
    }
    return EFL_OK;
}

efl_status efl_plan_score(const efl_plan *plan, efl_outcome *seen, const int8_t *x, const efl_target *target,
                          int32_t n)
{
    if (plan->loss.n_heads < 1) return EFL_E_OP;
    const efl_status status = efl_plan_forward(plan, x, n, 0, plan->n_ops);
    return status == EFL_OK ? run_loss(plan, seen, target, n) : status;
}
