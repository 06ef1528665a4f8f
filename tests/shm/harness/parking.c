/* A litmus test of park.h between two processes: in each round one announces its sleep and looks, while the other
 * publishes and looks. If neither sees what the other did, a wake-up is lost.
 *
 *     parking ROUNDS
 *
 * Prints how many wake-ups were lost, stopping at the first. Nobody really sleeps: it is the two looks that count.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>

#include "park.h"

/* Each word on lines of its own, as in a ring. */
typedef struct scene {
    mb_position go, done, published, seen, lost;
    mb_park_word bell;
} scene;

static void until(const uint64_t *word, uint64_t value) {
    for (uint32_t i = 1; mb_load_acquire(word) < value; i++)
        if (i % 4096 == 0) sched_yield(); else mb_pause();
}

int main(int argc, char **argv) {
    uint64_t rounds = argc == 2 ? strtoull(argv[1], NULL, 10) : 0, round;
    scene *s = mmap(NULL, sizeof(scene), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child;
    if (rounds == 0 || s == MAP_FAILED) return 2;
    child = fork();
    if (child < 0) return 2;
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (round = 1; round <= rounds; round++) {
            until(&s->go.value, round);
            /* The waker. */
            mb_store_release(&s->published.value, round);
            mb_store_relaxed(&s->seen.value, (uint64_t)mb_must_wake(&s->bell.waiting));
            mb_store_release(&s->done.value, round);
        }
        _exit(0);
    }
    for (round = 1; round <= rounds && s->lost.value == 0; round++) {
        uint64_t found;
        mb_unannounce(&s->bell.waiting);
        mb_store_release(&s->go.value, round);
        /* So that both are at it at the same moment, give or take. */
        for (uint64_t i = 0; i < round % 64; i++) mb_pause();
        /* The sleeper. */
        mb_announce(&s->bell.waiting);
        found = mb_load_acquire(&s->published.value) == round;
        until(&s->done.value, round);
        if (!found && !mb_load_relaxed(&s->seen.value)) s->lost.value++;
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    printf("%llu\n", (unsigned long long)s->lost.value);
    return 0;
}
