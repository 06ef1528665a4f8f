/* Answers every command of a session with one report, and does nothing else: the pipeline's benchmark compares
 * the exchange with it. The same rings, the same waking, no engine.
 *
 *     echo COMMANDS_FD REPORTS_FD CORE     (CORE < 0: not pinned)
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <signal.h>

#include "park.h"
#include "records.h"
#include "ring.h"

static mb_ring *map(int fd) {
    struct stat about;
    void *memory;
    if (fstat(fd, &about) != 0) exit(2);
    memory = mmap(NULL, (size_t)about.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) exit(2);
    return memory;
}

int main(int count, char **arguments) {
    mb_ring *commands, *reports;
    mb_reader reader;
    mb_producer producer;
    if (count != 4) return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (atoi(arguments[3]) >= 0) {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        CPU_SET(atoi(arguments[3]), &cores);
        if (sched_setaffinity(0, sizeof(cores), &cores) != 0) return 2;
    }
    commands = map(atoi(arguments[1]));
    reports = map(atoi(arguments[2]));
    mb_reader_attach(&reader, commands, 0);
    mb_producer_attach(&producer, reports);
    for (;;) {
        uint64_t ready = mb_reader_ready(&reader, 256), room, i;
        uint64_t read = mb_load_acquire(&commands->readers[1].value);
        room = producer.mask + 1 - (producer.position - read);
        if (ready > 256) ready = 256;
        if (ready > room) ready = room;
        if (ready == 0) {
            mb_pause();
            continue;
        }
        for (i = 0; i < ready; i++) {
            const mb_record *command = mb_reader_slot(&reader, i);
            mb_report *report = mb_producer_slot(&producer, i);
            memset(report, 0, sizeof(*report));
            report->command_position = reader.position + i + 1;
            report->price_ticks = command->price_ticks;
            report->quantity_lots = command->quantity_lots;
            report->kind = MB_ACCEPTED;
        }
        mb_publish(&producer, ready);
        mb_reader_advance(&reader, ready);
        mb_release(&reader);
        mb_wake(&commands->producer_waiting.waiting);
    }
}
