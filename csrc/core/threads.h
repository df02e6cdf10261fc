/* SPDX-License-Identifier: Apache-2.0
 *
 * A few threads that share the tasks of one call. Which thread runs which task is not fixed, so tasks write
 * to places of their own, and what is summed over them must not depend on the order.
 */
#ifndef EFL_CORE_THREADS_H
#define EFL_CORE_THREADS_H
#include <stdint.h>

/* One of the tasks 0..n-1, on worker 0..workers-1; no two tasks run on one worker at the same time. */
typedef void efl_task_fn(void *context, int32_t task, int32_t worker);

/* Run tasks 0..n-1 on at most `workers` threads, the calling one included; returns when all are done. While
 * another call is running, or without efl_threads_set, the calling thread runs them all, as worker 0. */
void efl_parallel(int32_t n, int32_t workers, efl_task_fn *task, void *context);

#endif
