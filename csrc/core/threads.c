/* SPDX-License-Identifier: Apache-2.0
 *
 * The pool behind efl_parallel. Tasks are handed out by a counter; the caller takes tasks too and waits only
 * for tasks that were begun, so a thread that the system does not schedule costs nothing. Idle threads spin
 * for SPINS rounds (the gap between two operators), then sleep. A forked child has no threads until it calls
 * efl_threads_set itself.
 */
#include "core/threads.h"

#include "edgefl.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define SPINS 20000 /* some 50 us */

static struct {
    pthread_mutex_t lock; /* of the sleepers */
    pthread_cond_t wake;
    atomic_flag busy;  /* a call owns the pool */
    int32_t n_threads; /* besides the caller; changes under `busy` only */
    pthread_t threads[EFL_THREADS_MAX];
    atomic_int stop, sleepers;
    /* the job: written while no thread is inside */
    efl_task_fn *task;
    void *context;
    int32_t n, workers;
    atomic_int open, inside, next, done;
    atomic_uint round; /* counts jobs */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .busy = ATOMIC_FLAG_INIT};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

/* Wait a little: spin at first, then let others run, since there may be fewer cores than threads. */
static inline void pause_a_bit(int32_t *times)
{
    if (++*times < 2000)
        relax();
    else
        sched_yield();
}

static void take_tasks(int32_t worker)
{
    for (;;) {
        const int task = atomic_fetch_add(&pool.next, 1);
        if (task >= pool.n) return;
        pool.task(pool.context, task, worker);
        atomic_fetch_add(&pool.done, 1);
    }
}

static void wait_for_round(unsigned seen)
{
    for (int32_t i = 0; i < SPINS; i++) {
        if (atomic_load(&pool.round) != seen || atomic_load(&pool.stop)) return;
        relax();
    }
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.sleepers, 1);
    while (atomic_load(&pool.round) == seen && !atomic_load(&pool.stop))
        pthread_cond_wait(&pool.wake, &pool.lock);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.lock);
}

static void *serve(void *number)
{
    const int32_t worker = (int32_t)(intptr_t)number;
    unsigned seen = atomic_load(&pool.round);
    for (;;) {
        wait_for_round(seen);
        if (atomic_load(&pool.stop)) return NULL;
        seen = atomic_load(&pool.round);
        atomic_fetch_add(&pool.inside, 1); /* from here on the job stays as it is, if it is open */
        if (atomic_load(&pool.open) && worker < pool.workers) take_tasks(worker);
        atomic_fetch_sub(&pool.inside, 1);
    }
}

static void wake_all(void)
{
    if (!atomic_load(&pool.sleepers)) return;
    pthread_mutex_lock(&pool.lock);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
}

void efl_parallel(int32_t n, int32_t workers, efl_task_fn *task, void *context)
{
    if (n < 2 || workers < 2 || pool.n_threads == 0 || atomic_flag_test_and_set(&pool.busy)) {
        for (int32_t i = 0; i < n; i++) task(context, i, 0);
        return;
    }
    int32_t times = 0;
    while (atomic_load(&pool.inside)) pause_a_bit(&times); /* a thread that came late to the last job */
    pool.task = task;
    pool.context = context;
    pool.n = n;
    pool.workers = workers;
    atomic_store(&pool.next, 0);
    atomic_store(&pool.done, 0);
    atomic_store(&pool.open, 1);
    atomic_fetch_add(&pool.round, 1);
    wake_all();
    take_tasks(0);
    times = 0;
    while (atomic_load(&pool.done) < n) pause_a_bit(&times);
    atomic_store(&pool.open, 0);
    atomic_flag_clear(&pool.busy);
}

/* The child of a fork has the caller only; whatever the pool's state was, it starts anew. */
static void forget(void)
{
    pool.n_threads = 0;
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    atomic_store(&pool.stop, 0);
    atomic_store(&pool.sleepers, 0);
    atomic_store(&pool.inside, 0);
    atomic_store(&pool.open, 0);
    atomic_store(&pool.round, 0);
    atomic_flag_clear(&pool.busy);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, forget);
}

efl_status efl_threads_set(int32_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (n < 1 || n > EFL_THREADS_MAX) return EFL_E_RANGE;
    pthread_once(&once, watch_forks);
    if (n > 1 && n - 1 <= pool.n_threads) return EFL_OK;
    if (atomic_flag_test_and_set(&pool.busy)) return EFL_E_RANGE;
    if (n == 1) {
        atomic_store(&pool.stop, 1);
        wake_all();
        for (int32_t i = 0; i < pool.n_threads; i++) pthread_join(pool.threads[i], NULL);
        atomic_store(&pool.stop, 0);
        pool.n_threads = 0;
    }
    efl_status status = EFL_OK;
    while (pool.n_threads < n - 1 && status == EFL_OK) {
        const intptr_t worker = pool.n_threads + 1;
        if (pthread_create(&pool.threads[pool.n_threads], NULL, serve, (void *)worker) == 0)
            pool.n_threads++;
        else
            status = EFL_E_SIZE;
    }
    atomic_flag_clear(&pool.busy);
    return status;
}

#else /* no threads here */

void efl_parallel(int32_t n, int32_t workers, efl_task_fn *task, void *context)
{
    (void)workers;
    for (int32_t i = 0; i < n; i++) task(context, i, 0);
}

efl_status efl_threads_set(int32_t n)
{
    return n == 1 ? EFL_OK : EFL_E_RANGE;
}
#endif
