// The textbook order book that ours is measured against: std::map of price levels, std::list of orders,
// std::unordered_map from order id to the order's place.
//
//     stdmap FLOW            plays the flow (format: benchmarks/flows.py), times it as a whole
//     stdmap FLOW SAMPLES    times each operation; writes the ticks of each as uint32 to SAMPLES
//
// Prints one JSON object. It is what a good programmer writes in an afternoon, not what can be done with
// effort: node-based containers, one allocation a level, an order and an index entry, and nothing fetched ahead.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <iterator>
#include <list>
#include <map>
#include <unordered_map>
#include <vector>

#if defined(__x86_64__)
#include <x86intrin.h>
// Fenced, so that nothing of the operation leaks out of the pair.
static inline uint64_t tick_begin() { _mm_lfence(); uint64_t t = __rdtsc(); _mm_lfence(); return t; }
static inline uint64_t tick_end() { unsigned core; uint64_t t = __rdtscp(&core); _mm_lfence(); return t; }
#else
static inline uint64_t tick_begin() { return std::chrono::steady_clock::now().time_since_epoch().count(); }
static inline uint64_t tick_end() { return tick_begin(); }
#endif

struct Header {
    char magic[8];
    uint32_t header_bytes, record_bytes;
    uint64_t prefill, operations, max_id;
    uint32_t lowest_price, highest_price;
    uint64_t expected[7];
    char mix, padding[23];
};
static_assert(sizeof(Header) == 128, "see benchmarks/flows.py");

struct Record {
    uint8_t op, side;
    uint16_t quantity_high;
    uint32_t price, quantity_low, account;
    uint64_t id;
    uint64_t quantity() const { return quantity_low | static_cast<uint64_t>(quantity_high) << 32; }
};
static_assert(sizeof(Record) == 24, "see benchmarks/flows.py");
enum { GTC = 1, CANCEL = 2, IOC = 3, REPLACE = 4, REDUCE = 5 };
enum { BUY = 0, SELL = 1 };

struct Totals {
    uint64_t trades = 0, quantity = 0, notional = 0, hash = 0;

    void add(uint64_t maker, uint64_t taker, uint64_t price, uint64_t lots) {
        trades++;
        quantity += lots;
        notional += price * lots;
        uint64_t word = maker * 0x9E3779B97F4A7C15u + taker * 0xC2B2AE3D27D4EB4Fu + price * 0x165667B19E3779F9u + lots;
        hash = (hash ^ word) * 0x100000001B3u;
    }
};

class Book {
    struct Order { uint64_t id, lots; };
    using Queue = std::list<Order>;
    struct Place { uint32_t price; uint8_t side; Queue::iterator order; };

    std::map<uint32_t, Queue, std::greater<uint32_t>> bids;
    std::map<uint32_t, Queue> asks;
    std::unordered_map<uint64_t, Place> places;

public:
    Totals totals;

    Book() { places.reserve(1 << 14); }
    size_t resting() const { return places.size(); }

    void apply(const Record &record) {
        switch (record.op) {
        case GTC: add(record); break;
        case CANCEL: cancel(record); break;
        case IOC: take(record); break;
        case REPLACE: replace(record); break;
        default: places.find(record.id)->second.order->lots -= record.quantity();
        }
    }

private:
    template <class Levels, class Crosses> uint64_t match(Levels &levels, const Record &taker, Crosses crosses) {
        uint64_t left = taker.quantity();
        while (left && !levels.empty()) {
            auto level = levels.begin();
            if (!crosses(level->first)) break;
            Queue &queue = level->second;
            while (left && !queue.empty()) {
                Order &maker = queue.front();
                uint64_t lots = std::min(left, maker.lots);
                totals.add(maker.id, taker.id, level->first, lots);
                left -= lots;
                maker.lots -= lots;
                if (maker.lots == 0) {
                    places.erase(maker.id);
                    queue.pop_front();
                }
            }
            if (queue.empty()) levels.erase(level);
        }
        return left;
    }

    uint64_t take(const Record &r) {
        if (r.side == SELL) return match(bids, r, [&](uint32_t price) { return price >= r.price; });
        return match(asks, r, [&](uint32_t price) { return price <= r.price; });
    }

    Place rest(const Record &record, uint64_t left) {
        Queue &queue = record.side == SELL ? asks[record.price] : bids[record.price];
        queue.push_back({record.id, left});
        return {record.price, record.side, std::prev(queue.end())};
    }

    void add(const Record &record) {
        uint64_t left = take(record);
        if (left) places.emplace(record.id, rest(record, left));
    }

    template <class Levels> static void remove(Levels &levels, const Place &place) {
        auto level = levels.find(place.price);
        level->second.erase(place.order);
        if (level->second.empty()) levels.erase(level);
    }

    void remove(const Place &place) {
        if (place.side == SELL) remove(asks, place);
        else remove(bids, place);
    }

    void cancel(const Record &record) {
        auto found = places.find(record.id);
        remove(found->second);
        places.erase(found);
    }

    void replace(const Record &record) {
        auto found = places.find(record.id);
        remove(found->second);
        uint64_t left = take(record);
        if (left) found->second = rest(record, left);
        else places.erase(found);
    }
};

using Clock = std::chrono::steady_clock;

static uint64_t nanoseconds_since(Clock::time_point start) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

static bool load(const char *path, Header &header, std::vector<Record> &records) {
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    bool good = fread(&header, sizeof header, 1, file) == 1 && memcmp(header.magic, "OFLOW01", 8) == 0 &&
                header.record_bytes == sizeof(Record);
    if (good) {
        records.resize(header.prefill + header.operations);
        good = fread(records.data(), sizeof(Record), records.size(), file) == records.size();
    }
    fclose(file);
    return good;
}

static uint64_t play(Book &book, const Record *record, const Record *end) {
    auto start = Clock::now();
    for (; record != end; ++record) book.apply(*record);
    return nanoseconds_since(start);
}

// Prints the cost of an empty pair of clock reads (median) and the ticks of a nanosecond; writes the samples.
static uint64_t sample(Book &book, const Record *record, const Record *end, const char *path) {
    std::vector<uint32_t> ticks(end - record), empty(1 << 16);
    for (auto &pair : empty) { uint64_t begin = tick_begin(); pair = static_cast<uint32_t>(tick_end() - begin); }
    std::nth_element(empty.begin(), empty.begin() + empty.size() / 2, empty.end());
    auto start = Clock::now();
    uint64_t first = tick_begin();
    for (auto &pair : ticks) {
        uint64_t begin = tick_begin();
        book.apply(*record++);
        pair = static_cast<uint32_t>(std::min<uint64_t>(tick_end() - begin, UINT32_MAX));
    }
    uint64_t all = tick_end() - first, nanoseconds = nanoseconds_since(start);
    printf("\"timer_ticks\": %u, \"ticks_per_ns\": %.9f, ", empty[empty.size() / 2],
           static_cast<double>(all) / static_cast<double>(nanoseconds));
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(ticks.data(), sizeof ticks[0], ticks.size(), file) != ticks.size() || fclose(file)) perror(path);
    return nanoseconds;
}

int main(int count, char **arguments) {
    Header header;
    std::vector<Record> records;
    if (count < 2 || !load(arguments[1], header, records)) {
        fprintf(stderr, "usage: stdmap FLOW [SAMPLES]; FLOW could not be read\n");
        return 2;
    }
    const Record *timed = records.data() + header.prefill, *end = records.data() + records.size();
    Book book;
    for (const Record *record = records.data(); record != timed; ++record) book.apply(*record);
    printf("{");
    uint64_t nanoseconds = count > 2 ? sample(book, timed, end, arguments[2]) : play(book, timed, end);
    const Totals &t = book.totals;
    printf("\"ns\": %llu, \"trades\": %llu, \"quantity\": %llu, \"notional\": %llu, \"resting\": %zu, \"hash\": %llu}\n",
           static_cast<unsigned long long>(nanoseconds), static_cast<unsigned long long>(t.trades),
           static_cast<unsigned long long>(t.quantity), static_cast<unsigned long long>(t.notional), book.resting(),
           static_cast<unsigned long long>(t.hash));
    return 0;
}
