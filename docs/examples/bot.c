/* A bot in C: rests a sell order, buys it back, cancels what is left, and prints its reports.
 *
 *     cc -std=gnu11 -I"$(python -c 'import matchbox; print(matchbox.get_include())')" bot.c -o bot
 *     ./bot DATA_FOLDER ACCOUNT MARKET PRICE_TICKS
 *
 * Exit status: 0 as it should be, 1 anything else.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "bot.h"

static const char *const kinds[] = {"",       "ACCEPTED", "REJECTED", "TRADE",     "RESTED",   "CANCELED",
                                    "EXPIRED", "AMENDED",  "TRIGGERED", "PREVENTED", "BALANCE"};

static void limit(mb_bot *bot, unsigned side, uint32_t market, int64_t price, int64_t lots, const char *id) {
    mb_record *order = mb_bot_command(bot, MB_NEW_ORDER);
    if (!order) {
        fprintf(stderr, "the command ring is full\n");
        exit(1);
    }
    order->market = market;
    order->side = (uint8_t)side;
    order->order_type = MB_LIMIT;
    order->time_in_force = MB_GTC;
    order->price_ticks = price;
    order->quantity_lots = lots;
    memcpy(order->client_order_id, id, strlen(id));
}

int main(int argc, char **argv) {
    mb_bot bot;
    uint64_t last, answered = 0;
    int64_t bought = 0;
    if (argc != 5) {
        fprintf(stderr, "use: bot DATA_FOLDER ACCOUNT MARKET PRICE_TICKS\n");
        return 1;
    }
    if (mb_bot_connect(&bot, argv[1], argv[2], "") != 0) {
        fprintf(stderr, "%s\n", bot.error);
        return 1;
    }
    /* Three commands, sent at once. */
    limit(&bot, MB_SELL, (uint32_t)atoi(argv[3]), atoll(argv[4]), 5, "c-sell");
    limit(&bot, MB_BUY, (uint32_t)atoi(argv[3]), atoll(argv[4]), 3, "c-buy");
    memcpy(mb_bot_command(&bot, MB_CANCEL_ORDER)->client_order_id, "c-sell", 6);
    last = mb_bot_send(&bot);
    while (answered < last) {
        const mb_report *report = mb_bot_report(&bot, INT64_C(10000000000));
        if (!report) {
            fprintf(stderr, "no report in ten seconds\n");
            return 1;
        }
        if (report->kind < sizeof kinds / sizeof *kinds)
            printf("%s %.36s quantity=%" PRId64 " leaves=%" PRId64 " reason=%u\n", kinds[report->kind],
                   report->client_order_id, report->quantity_lots, report->leaves_lots, (unsigned)report->reason);
        if (report->kind == MB_TRADE) {
            if (!(report->flags & MB_AS_MAKER)) bought += report->quantity_lots;
        } else if (report->command_position > answered) {
            answered = report->command_position;
        }
        mb_bot_release(&bot);
    }
    mb_bot_close(&bot);
    return bought == 3 ? 0 : 1;
}
