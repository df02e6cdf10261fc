/* SPDX-License-Identifier: Apache-2.0
 *
 * The loss of a detector with one or more grids: cell (y, x) of a head [h,w,a*(5+k)] answers for the objects
 * whose centre lies in it, anchor by anchor with x, y, width, height, objectness, k classes. BCE on
 * objectness (all cells) and classes, squared error on the box (responsible cells), each divided by its
 * number of terms in the sample. In: boxes [n_boxes,5] (class, cx, cy, w, h), a class below 0 is no box.
 * Source: YOLO, arXiv:1506.02640 and arXiv:1804.02767; docs/training.md, "Losses".
 */
#include "nn/loss.h"

#include <string.h>

typedef struct {
    int32_t head, anchor, y, x;
} place;

static float least(float a, float b)
{
    return a < b ? a : b;
}

/* Where a box belongs: the anchor that overlaps it most when both have the same centre, the first of equals,
 * and there the cell that holds the centre. */
static place find_place(const efl_loss *loss, const float *box)
{
    place at = {0, 0, 0, 0};
    float best = -1.0f;
    for (int32_t i = 0; i < loss->n_heads * loss->n_anchors; i++) {
        const float w = loss->anchors[2 * i], h = loss->anchors[2 * i + 1];
        const float both = least(w, box[3]) * least(h, box[4]);
        const float overlap = both / (w * h + box[3] * box[4] - both);
        if (overlap > best) {
            best = overlap;
            at.head = i / loss->n_anchors;
            at.anchor = i % loss->n_anchors;
        }
    }
    const efl_head *head = &loss->heads[at.head];
    at.x = (int32_t)(box[1] * (float)head->w);
    at.y = (int32_t)(box[2] * (float)head->h);
    at.x = at.x < head->w ? at.x : head->w - 1;
    at.y = at.y < head->h ? at.y : head->h - 1;
    return at;
}

/* Places of the boxes that count: no padding, and the first box of a place only. Returns how many. */
static int32_t find_places(place *at, uint8_t *counts, const efl_loss *loss, const float *boxes, int32_t n)
{
    int32_t found = 0;
    for (int32_t b = 0; b < n; b++) {
        counts[b] = boxes[5 * b] >= 0.0f;
        if (!counts[b]) continue;
        at[b] = find_place(loss, boxes + 5 * b);
        for (int32_t i = 0; i < b; i++)
            if (counts[i] && memcmp(&at[i], &at[b], sizeof(place)) == 0) counts[b] = 0;
        found += counts[b];
    }
    return found;
}

static int boxes_ok(const float *box, int32_t n, int32_t classes)
{
    for (int32_t i = 0; i < n; i++, box += 5) {
        if (box[0] < 0.0f) continue;
        int good = box[0] < (float)(classes > 1 ? classes : 1);
        for (int32_t j = 1; j < 5; j++) good &= box[j] >= 0.0f && box[j] <= 1.0f;
        if (!good || box[3] < 1e-6f || box[4] < 1e-6f) return 0;
    }
    return 1;
}

/* Error of the four numbers of a box, n_terms = 4 * responsible cells; returns the sum of squares. */
static double box_error(float *error, const int8_t *y, const efl_tensor *t, const efl_head *head,
                        const place *at, const float *box, const float *anchor, int32_t n_terms)
{
    double sum = 0.0;
    for (int32_t j = 0; j < 4; j++) {
        const int32_t l = y[j] - t->zero;
        float value = (float)l * t->scale, want, slope = 1.0f;
        if (j < 2) {
            float rest;
            efl_sigmoid(&value, &rest, head->table, l);
            slope = value * rest;
            const int32_t cells = j ? head->h : head->w, cell = j ? at->y : at->x;
            want = box[1 + j] * (float)cells - (float)cell;
        } else {
            want = (float)efl_log((double)box[1 + j] / (double)anchor[j - 2]);
        }
        const float off = value - want;
        sum += (double)off * (double)off;
        error[j] = 2.0f * off * slope / (float)n_terms;
    }
    return sum;
}

efl_status efl_grid_i8(float *error, efl_outcome *seen, const int8_t *y, const efl_tensor *t,
                       const efl_loss *loss, int32_t head, const efl_target *target, int32_t n)
{
    const efl_head *own = &loss->heads[head];
    const int32_t depth = own->c / loss->n_anchors, classes = depth - 5, boxes = target->n_boxes;
    int32_t cells = 0; /* of all heads */
    for (int32_t i = 0; i < loss->n_heads; i++)
        cells += loss->heads[i].h * loss->heads[i].w * loss->n_anchors;
    if (boxes < 0 || boxes > EFL_BOXES_MAX) return EFL_E_RANGE;
    if (boxes && !target->values) return EFL_E_NULL;
    if (boxes && !boxes_ok(target->values, n * boxes, classes)) return EFL_E_RANGE;
    memset(error, 0, (size_t)n * (size_t)t->size * sizeof(float));
    for (int32_t i = 0; i < n; i++, y += t->size, error += t->size) {
        place at[EFL_BOXES_MAX];
        uint8_t counts[EFL_BOXES_MAX];
        const float *box = boxes ? target->values + (size_t)i * (size_t)boxes * 5 : NULL;
        const int32_t found = find_places(at, counts, loss, box, boxes);
        double object = 0.0, square = 0.0, class_ = 0.0;
        for (int32_t j = 4; j < t->size; j += depth) {
            float p, rest;
            efl_sigmoid(&p, &rest, own->table, y[j] - t->zero);
            error[j] = p / (float)cells;
            object += efl_surprise(rest);
        }
        for (int32_t b = 0; b < boxes; b++, box += 5) {
            if (!counts[b] || at[b].head != head) continue;
            const int32_t first = ((at[b].y * own->w + at[b].x) * loss->n_anchors + at[b].anchor) * depth;
            const float *anchor = loss->anchors + 2 * (head * loss->n_anchors + at[b].anchor);
            square += box_error(error + first, y + first, t, own, &at[b], box, anchor, 4 * found);
            for (int32_t j = 4; j < depth; j++) {
                const int32_t k = first + j, l = y[k] - t->zero;
                const float want = j == 4 || j - 5 == (int32_t)box[0] ? 1.0f : 0.0f;
                float p, rest;
                efl_sigmoid(&p, &rest, own->table, l);
                error[k] = (p - want) / (float)(j == 4 ? cells : found * classes);
                const double term = efl_surprise(want > 0.0f ? p : rest);
                if (j == 4)
                    object += term - efl_surprise(rest);
                else
                    class_ += term;
                seen->hits += j == 4 && l > 0;
            }
            seen->terms++;
        }
        seen->loss += object / cells;
        if (found) seen->loss += square / (4.0 * found);
        if (found && classes) seen->loss += class_ / ((double)found * classes);
    }
    return EFL_OK;
}
