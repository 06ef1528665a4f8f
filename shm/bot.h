/* A bot in C or C++: attach, send commands, read reports. What matchbox.connect() does, in a header.
 *
 *      mb_bot bot;
 *      if (mb_bot_connect(&bot, "var/demo", "alice", "")) die(bot.error);
 *      mb_record *order = mb_bot_command(&bot, MB_NEW_ORDER);      // a slot of the ring, zeroed; NULL: it is full
 *      order->market = 1; order->side = MB_BUY; ...
 *      uint64_t position = mb_bot_send(&bot);                      // all commands filled since the last send
 *      const mb_report *report = mb_bot_report(&bot, 1000000000);  // the next one, in place; NULL: none in time
 *      mb_bot_release(&bot);                                       // reports that were read may be overwritten
 *      mb_bot_close(&bot);
 *
 * A slot is an mb_record; other kinds are the same bytes by another name: ((mb_new_order *)order)->self_trade,
 * (mb_money_record *)mb_bot_command(&bot, MB_TRANSFER), ... Records that go together (ORDER_TERMS, ORDER_LIST or a
 * CANCEL_ORDER with MB_REPLACE, and the NEW_ORDERs that belong to it) are filled one after the other and sent by one
 * mb_bot_send().
 *
 * Positions count this session's commands from 1; the report that answers one carries its position. One thread at a
 * time. Reports must be read and released: a session whose report ring is full is detached. After a report of kind
 * MB_REPORT_DETACHED no more come, and mb_bot_command() gives NULL.
 */
#ifndef MATCHBOX_BOT_H
#define MATCHBOX_BOT_H

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "park.h"
#include "reasons.h"
#include "ring.h"

#define MB_BOT_SPINS 2000
#define MB_BOT_SLICE_NS 100000000 /* how often a sleeper looks whether the engine lives */
#define MB_BOT_FDS 8

typedef struct mb_bot {
    mb_ring *commands;          /* we write its slots, `producer`, and readers[1] = our place among the reports */
    const mb_ring *reports;
    size_t command_bytes, report_bytes;
    uint64_t command_mask, report_mask;
    uint64_t sent, filled;      /* commands published; filled, not yet published */
    uint64_t read;              /* reports read */
    uint32_t session, account;
    int detached;               /* 0, or the reason */
    int control;
    int pidfds[MB_BOT_FDS], pidfd_count;
    char error[256];            /* what went wrong */
} mb_bot;

static inline int mb_bot_fail(mb_bot *bot, const char *what) {
    snprintf(bot->error, sizeof bot->error, "%s: %s", what, strerror(errno));
    return -1;
}

/* One request, one reply and its descriptors; 0, or -1 with bot->error. */
static inline int mb_bot_ask(mb_bot *bot, const mb_request *request, mb_reply *reply, int *fds, int *count) {
    union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int) * MB_BOT_FDS)]; } control;
    struct iovec part = {reply, sizeof *reply};
    struct msghdr message;
    struct cmsghdr *found;
    ssize_t got;
    *count = 0;
    if (send(bot->control, request, sizeof *request, MSG_NOSIGNAL) != (ssize_t)sizeof *request)
        return mb_bot_fail(bot, "the exchange hung up");
    memset(&message, 0, sizeof message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    got = recvmsg(bot->control, &message, MSG_CMSG_CLOEXEC);
    if (got < 0) return mb_bot_fail(bot, "the exchange did not answer");
    for (found = CMSG_FIRSTHDR(&message); found; found = CMSG_NXTHDR(&message, found))
        if (found->cmsg_level == SOL_SOCKET && found->cmsg_type == SCM_RIGHTS) {
            *count = (int)((found->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds, CMSG_DATA(found), sizeof(int) * (size_t)*count);
        }
    if (got < (ssize_t)sizeof *reply || reply->magic != MB_CONTROL_MAGIC || reply->layout_version != MB_LAYOUT_VERSION)
        snprintf(bot->error, sizeof bot->error, "the exchange speaks another version of the control protocol");
    else if (reply->status)
        snprintf(bot->error, sizeof bot->error, "refused, reason %u: %.207s", (unsigned)reply->status, reply->text);
    else
        return 0;
    while (*count > 0) close(fds[--*count]);
    return -1;
}

/* The ring behind a descriptor; NULL with bot->error. */
static inline void *mb_bot_map(mb_bot *bot, int fd, int protection, size_t *bytes) {
    struct stat about;
    void *memory;
    if (fstat(fd, &about) != 0) {
        mb_bot_fail(bot, "cannot map a ring");
        return NULL;
    }
    *bytes = (size_t)about.st_size;
    memory = mmap(NULL, *bytes, protection, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        mb_bot_fail(bot, "cannot map a ring");
        return NULL;
    }
    if (mb_ring_check((const mb_ring *)memory, *bytes, MB_RECORD_BYTES) != 0) {
        snprintf(bot->error, sizeof bot->error, "not a ring of this version");
        munmap(memory, *bytes);
        return NULL;
    }
    return memory;
}

static inline void mb_bot_unmap(mb_bot *bot) {
    if (bot->commands) munmap(bot->commands, bot->command_bytes);
    if (bot->reports) munmap((void *)(uintptr_t)bot->reports, bot->report_bytes);
    while (bot->pidfd_count > 0) close(bot->pidfds[--bot->pidfd_count]);
    if (bot->control >= 0) close(bot->control);
    bot->commands = NULL;
    bot->reports = NULL;
    bot->control = -1;
}

/* Attach. folder: the exchange's data folder. account: whose orders, "" = none. name: of the session, "" = any.
 * flags: enum mb_request_flag. 0, or -1 with bot->error; then nothing is left open. */
static inline int mb_bot_attach(mb_bot *bot, const char *folder, const char *account, const char *name,
                                uint32_t flags) {
    struct sockaddr_un address;
    struct timeval patience = {10, 0};
    mb_request request;
    mb_reply reply;
    int fds[MB_BOT_FDS], count = 0, length;
    memset(bot, 0, sizeof *bot);
    memset(&address, 0, sizeof address);
    memset(&request, 0, sizeof request);
    bot->control = -1;
    address.sun_family = AF_UNIX;
    length = snprintf(address.sun_path, sizeof address.sun_path, "%s/control.sock", folder);
    if (length < 0 || (size_t)length >= sizeof address.sun_path || strlen(account) > MB_NAME_BYTES ||
        strlen(name) > MB_NAME_BYTES) {
        snprintf(bot->error, sizeof bot->error, "too long: data folder, account or name");
        return -1;
    }
    bot->control = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (bot->control < 0 || connect(bot->control, (struct sockaddr *)&address, sizeof address) != 0 ||
        setsockopt(bot->control, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0) {
        mb_bot_fail(bot, "no exchange answers");
        mb_bot_unmap(bot);
        return -1;
    }
    request.magic = MB_CONTROL_MAGIC;
    request.layout_version = MB_LAYOUT_VERSION;
    request.kind = MB_REQUEST_ATTACH;
    request.flags = flags;
    memcpy(request.account, account, strlen(account));
    memcpy(request.name, name, strlen(name));
    if (mb_bot_ask(bot, &request, &reply, fds, &count) != 0) {
        mb_bot_unmap(bot);
        return -1;
    }
    if (count >= 3) {
        bot->commands = (mb_ring *)mb_bot_map(bot, fds[0], PROT_READ | PROT_WRITE, &bot->command_bytes);
        bot->reports = (const mb_ring *)mb_bot_map(bot, fds[1], PROT_READ, &bot->report_bytes);
    }
    for (int i = 0; i < count; i++)
        if (i < 3)
            close(fds[i]);
        else
            bot->pidfds[bot->pidfd_count++] = fds[i];
    if (!bot->commands || !bot->reports) {
        mb_bot_unmap(bot);
        return -1;
    }
    bot->command_mask = bot->commands->header.capacity - 1;
    bot->report_mask = bot->reports->header.capacity - 1;
    bot->sent = mb_load_acquire(&bot->commands->producer.value);
    bot->read = mb_load_acquire(&bot->commands->readers[1].value);
    bot->session = reply.session;
    bot->account = reply.account;
    return 0;
}

/* Attach as a bot does that leaves its orders when it ends. */
static inline int mb_bot_connect(mb_bot *bot, const char *folder, const char *account, const char *name) {
    return mb_bot_attach(bot, folder, account, name, 0);
}

/* Has a process of the engine died? A system call. */
static inline int mb_bot_engine_dead(const mb_bot *bot) {
    for (int i = 0; i < bot->pidfd_count; i++) {
        struct pollfd one = {bot->pidfds[i], POLLIN, 0};
        if (poll(&one, 1, 0) != 0) return 1;
    }
    return 0;
}

/* The next command to fill in, zeroed but for its kind. NULL: the ring is full, or the session has ended. */
static inline mb_record *mb_bot_command(mb_bot *bot, unsigned kind) {
    uint64_t taken = mb_load_acquire(&bot->commands->readers[0].value);
    uint64_t next = bot->sent + bot->filled;
    mb_record *record;
    if (next - taken > bot->command_mask || bot->detached) return NULL;
    record = (mb_record *)((uint8_t *)bot->commands + MB_RING_SLOTS_OFFSET) + (next & bot->command_mask);
    memset(record, 0, sizeof *record);
    record->kind = (uint8_t)kind;
    bot->filled++;
    return record;
}

/* Send all commands filled since the last send, at once. Returns the position of the last one. */
static inline uint64_t mb_bot_send(mb_bot *bot) {
    bot->sent += bot->filled;
    bot->filled = 0;
    mb_store_release(&bot->commands->producer.value, bot->sent);
    mb_wake(&bot->commands->reader_waiting.waiting);
    return bot->sent;
}

static inline int mb_bot_ready(const mb_bot *bot) {
    return mb_load_acquire(&bot->reports->producer.value) != bot->read;
}

static inline int64_t mb_bot_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The next report, in place until mb_bot_release(); NULL: none within timeout_ns, or the engine is dead. */
static inline const mb_report *mb_bot_report(mb_bot *bot, int64_t timeout_ns) {
    const mb_report *report;
    int64_t until = mb_bot_now() + timeout_ns;
    uint32_t *bell = &bot->commands->producer_waiting.waiting;
    while (!mb_bot_ready(bot)) {
        int64_t left = until - mb_bot_now();
        for (int i = 0; i < MB_BOT_SPINS && !mb_bot_ready(bot); i++) mb_pause();
        if (mb_bot_ready(bot)) break;
        if (left <= 0 || bot->detached || mb_bot_engine_dead(bot)) return NULL;
        mb_announce(bell);
        if (mb_bot_ready(bot))
            mb_unannounce(bell);
        else
            mb_park(bell, left < MB_BOT_SLICE_NS ? left : MB_BOT_SLICE_NS);
    }
    report = (const mb_report *)((const uint8_t *)bot->reports + MB_RING_SLOTS_OFFSET) + (bot->read & bot->report_mask);
    bot->read++;
    if (report->kind == MB_REPORT_DETACHED) bot->detached = report->reason;
    return report;
}

/* Give back the reports read so far. */
static inline void mb_bot_release(mb_bot *bot) { mb_store_release(&bot->commands->readers[1].value, bot->read); }

/* Log out and let go of everything. Orders stay on the book. */
static inline void mb_bot_close(mb_bot *bot) {
    if (bot->commands && mb_bot_command(bot, MB_LOGOUT)) mb_bot_send(bot);
    mb_bot_unmap(bot);
}

#endif
