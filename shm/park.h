/* Sleeping until there is something to read, without a lost wake-up and without a system call on the busy path.
 *
 * The sleeper announces itself in a park word, looks at its inputs once more, and only then waits on a futex.
 * The waker publishes, then looks at the park word, and calls the kernel only if somebody is announced.
 *
 *      sleeper                          waker
 *      word = 1                         publish
 *      FENCE                            FENCE
 *      look at the inputs again         if word: word = 0, wake
 *      if nothing: futex_wait(word, 1)
 *
 * Both fences are full ones: each side stores one word and then loads the other, and without a full fence both
 * loads may be served before both stores (x86 does this too): the sleeper sees no record, the waker sees no
 * sleeper, and the record waits for the timeout. A test build plants a missing fence and must be caught.
 *
 * The futexes are shared ones: the two sides are different processes. A word has one sleeper and any number of
 * wakers. Every wait has a timeout, so that a waker that dies between the two steps of mb_wake_now(), which nobody
 * can repeat for it, costs the sleeper that timeout, and a peer that scribbles over the word can delay only itself.
 */
#ifndef MATCHBOX_PARK_H
#define MATCHBOX_PARK_H

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ring.h"

static inline void mb_fence_full(void) {
#ifndef MB_PLANT_NO_FENCE
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Sleeper: say that we are about to sleep. Look at the inputs after this, then mb_park() or mb_unannounce(). */
static inline void mb_announce(uint32_t *word) {
    __atomic_store_n(word, 1, __ATOMIC_RELAXED);
    mb_fence_full();
}
static inline void mb_unannounce(uint32_t *word) { __atomic_store_n(word, 0, __ATOMIC_RELAXED); }

/* Waker: is somebody announced? The fence orders the caller's publication before the look. */
static inline int mb_must_wake(const uint32_t *word) {
    mb_fence_full();
    return __atomic_load_n(word, __ATOMIC_RELAXED) != 0;
}

static inline void mb_wake_now(uint32_t *word) {
    __atomic_store_n(word, 0, __ATOMIC_RELAXED);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* After publishing, at most once a round: wake the sleeper if there is one. */
static inline void mb_wake(uint32_t *word) {
    if (mb_must_wake(word)) mb_wake_now(word);
}

/* The same for a sleeper that waits on an eventfd, beside other descriptors: announced in a word of its own, woken by a
 * write. Only for descriptors of the appliance's own processes, and non-blocking ones. */
static inline void mb_ring_doorbell(uint32_t *word, int fd) {
    if (mb_must_wake(word)) {
        const uint64_t once = 1;
        __atomic_store_n(word, 0, __ATOMIC_RELAXED);
        if (write(fd, &once, sizeof once) < 0) {
            /* Its counter is full, so it is readable. */
        }
    }
}

/* Sleep while *word is 1, at most timeout_ns. Returns at once if it was cleared meanwhile. */
static inline void mb_park(uint32_t *word, int64_t timeout_ns) {
    struct timespec timeout = {(time_t)(timeout_ns / 1000000000), (long)(timeout_ns % 1000000000)};
    syscall(SYS_futex, word, FUTEX_WAIT, 1, &timeout, NULL, 0);
    mb_unannounce(word);
}

#endif
