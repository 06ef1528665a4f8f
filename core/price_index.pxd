"""The price levels of one market, in order: found, made and removed in constant time.

An ordered map (side, price) -> level for any prices of 0..2^40 - 1, best price first on every side: the
highest bid, the lowest ask. It knows nothing of orders; the book, the orders that wait for a price (triggers.pxd)
and market depth stand on it. All sides share one slab: an order that waits for a price takes the level that it
will not need on the book.

    side     0 bids, 1 asks; 2 and 4 begin with the highest price, as bids do, 3 and 5 with the lowest
    key      price for odd sides, price ^ (2^40 - 1) for even ones: so the best level of a side always has its
             smallest key, and one code path serves all sides
    tree     a radix tree of fanout 16 for each side, four bits of the key a step. Nodes that would have one
             child only are left out (path compression), so a tree of n levels has at most n - 1 nodes,
             whatever the prices are, and a lookup takes at most 10 steps, 2 to 4 in a dense book

    level    0 key     8 lots    16 first   20 last      24 parent  28 side   32 bytes; lots, first, last: the caller's
    node     0 child[16] of 4 bytes                                           64 bytes, a cache line
    meta     0 prefix  8 parent  12 bitmap  14 position  15 shift             16 bytes, beside each node

    child    0 = none; of a level 2 * its number; of a node its offset in bytes | its shift | 1. So a descent reads one
             cache line a step, never a node's meta, and what a step waits for is one shift, one mask and one load: the
             shift of (2 * key) takes the low six bits of the child as they are

Invariants: every node has two children or more; `bitmap` says which; the children of a node share all
bits of the key above its shift + 4 (its prefix); best[side] is the level with the smallest key, 0 if none.

All memory (112 bytes a level) is mapped by price_index_create(). A level's number is stable while it lives.
One thread at a time; nothing here blocks, allocates or fails.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from matchbox.core.bits cimport mb_highest_bit, mb_likely, mb_lowest_bit, mb_unlikely

cdef enum:
    # Numbers of nodes and levels have 26 bits, since six of a child's 32 hold the shift and the tag.
    PRICE_INDEX_MAX_LEVELS = (1 << 26) - 2
    BID = 0
    ASK = 1
    PRICE_SIDES = 6

ctypedef struct price_level:
    uint64_t key
    int64_t lots            # the caller's: quantity at this price. 0 when the level is made
    uint32_t first          # the caller's: 0 when the level is made
    uint32_t last           # the caller's: 0 when the level is made
    uint32_t parent         # node, 0 = it is the only level of its side
    uint32_t side

ctypedef struct price_node:
    uint32_t child[16]

ctypedef struct price_meta:
    uint64_t prefix         # the key's bits above shift + 4, the others 0
    uint32_t parent         # node, 0 = root; of a free node: the next free one
    uint16_t bitmap
    uint8_t position        # which child of the parent this is
    uint8_t shift           # 0, 4, ... 36

ctypedef struct price_index:
    price_level* levels     # [0] is "none", with a key above all others
    price_node* nodes       # [0] is not used
    price_meta* metas
    uint32_t root[6]
    uint32_t best[6]
    uint32_t free_level     # chained through `first`
    uint32_t free_node
    uint32_t count          # levels in use, all sides
    uint32_t capacity
    void* arena
    size_t arena_bytes

# Map the memory for `capacity` levels (all sides together). Raises BadArgument, MemoryError.
cdef int price_index_create(price_index* index, uint32_t capacity) except -1
cdef void price_index_destroy(price_index* index) noexcept nogil
# 0, or the number of the first broken invariant (see price_index.pyx). Slow; for tests.
cdef int price_index_validate(const price_index* index) noexcept nogil

cdef extern from * nogil:
    """
    #define PRICE_KEY_MASK ((UINT64_C(1) << 40) - 1)
    """
    const uint64_t PRICE_KEY_MASK


cdef inline uint64_t price_key(uint32_t side, int64_t price) noexcept nogil:
    """The key of a price; it is its own inverse. A smaller key is a better price of that side."""
    return <uint64_t>price ^ ((<uint64_t>(side & 1) - 1) & PRICE_KEY_MASK)


cdef inline int64_t price_of(const price_level* level) noexcept nogil:
    """The price of a level, in ticks."""
    return <int64_t>price_key(level.side, <int64_t>level.key)


cdef inline uint32_t price_index_best(const price_index* index, uint32_t side) noexcept nogil:
    """The best level of a side, or 0."""
    return index.best[side]


cdef inline bint _is_node(uint32_t child) noexcept nogil:
    return child & 1


cdef inline uint32_t _node(uint32_t child) noexcept nogil:
    """The number of a child that is a node."""
    return child >> 6


cdef inline uint32_t _level(uint32_t child) noexcept nogil:
    """The number of a child that is a level, or none."""
    return child >> 1


cdef inline uint32_t _child_of_node(uint32_t node, uint32_t shift) noexcept nogil:
    return node << 6 | shift | 1


cdef inline uint32_t _child_of_level(uint32_t level) noexcept nogil:
    return level << 1


cdef inline uint32_t _descend(const price_index* index, uint32_t child, uint64_t key, uint32_t* node) noexcept nogil:
    """Follow `key` from `child` to a level (which may have another key) or to 0; `node` is the last node passed."""
    cdef uint32_t last = 0
    key *= 2
    while _is_node(child):
        last = child
        child = index.nodes[_node(child)].child[(key >> (child & 63)) & 15]
    node[0] = _node(last)
    return _level(child)


cdef inline uint32_t price_index_find(const price_index* index, uint32_t side, int64_t price) noexcept nogil:
    """The level at this price, or 0."""
    cdef uint64_t key = price_key(side, price)
    cdef uint32_t node = 0
    cdef uint32_t level = _descend(index, index.root[side], key, &node)
    return level if index.levels[level].key == key else 0


cdef inline uint32_t _lowest(const price_index* index, uint32_t child) noexcept nogil:
    """The level with the smallest key at or below `child`."""
    cdef uint32_t node
    while _is_node(child):
        node = _node(child)
        child = index.nodes[node].child[mb_lowest_bit(index.metas[node].bitmap)]
    return _level(child)


cdef inline void _place(price_index* index, uint32_t side, uint32_t parent, uint32_t position,
                        uint32_t child) noexcept nogil:
    """Make `child` the child of `parent` at `position`, or the root."""
    if parent:
        index.nodes[parent].child[position] = child
    else:
        index.root[side] = child
    if _is_node(child):
        index.metas[_node(child)].parent = parent
        index.metas[_node(child)].position = <uint8_t>position
    else:
        index.levels[_level(child)].parent = parent


cdef inline void _split(price_index* index, uint32_t side, uint32_t level, uint32_t node, uint32_t reached,
                        uint64_t other) noexcept nogil:
    """Put `level` into the tree where its key parts from `other`, the key or prefix that the descent ended at.

    `reached` is the level it ended at, below `node`, or 0. The new node goes where the first differing four
    bits are: above `reached`, or above the highest node on the way whose shift is below theirs.
    """
    cdef uint64_t key = index.levels[level].key
    cdef uint32_t shift = mb_highest_bit(key ^ other) & 0x3C
    cdef uint32_t parent = node, child = _child_of_level(reached), position, added
    cdef price_meta* meta
    if reached == 0 or (node and index.metas[node].shift < shift):
        # No node on the way has this very shift: there the descent followed the key's own bits.
        while index.metas[node].parent and index.metas[index.metas[node].parent].shift < shift:
            node = index.metas[node].parent
        child = _child_of_node(node, index.metas[node].shift)
        parent = index.metas[node].parent
    position = (key >> index.metas[parent].shift) & 15
    added = index.free_node
    meta = &index.metas[added]
    index.free_node = meta.parent
    meta.prefix = key >> shift >> 4 << shift << 4
    meta.shift = <uint8_t>shift
    meta.bitmap = <uint16_t>(1 << ((key >> shift) & 15) | 1 << ((other >> shift) & 15))
    _place(index, side, parent, position, _child_of_node(added, shift))
    _place(index, side, added, (key >> shift) & 15, _child_of_level(level))
    _place(index, side, added, (other >> shift) & 15, child)


cdef inline uint32_t price_index_insert(price_index* index, uint32_t side, int64_t price) noexcept nogil:
    """The level at this price, made (with lots, first and last 0) if there was none.

    The caller sees to it that there are never more than `capacity` levels.
    """
    cdef uint64_t key = price_key(side, price), prefix
    cdef uint32_t node = 0, level, position
    cdef uint32_t reached = _descend(index, index.root[side], key, &node)
    cdef price_level* made
    cdef price_meta* meta
    if index.levels[reached].key == key:
        return reached
    level = index.free_level
    made = &index.levels[level]
    index.free_level = made.first
    index.count += 1
    made.key = key
    made.side = side
    made.lots = 0
    made.first = 0
    made.last = 0
    if key < index.levels[index.best[side]].key:
        index.best[side] = level
    meta = &index.metas[node]
    prefix = key >> meta.shift >> 4 << meta.shift << 4
    if mb_unlikely(index.root[side] == 0):
        index.root[side] = _child_of_level(level)
        made.parent = 0
    elif reached == 0 and prefix == meta.prefix:
        # The usual case of a dense book: an empty place in a node.
        position = (key >> meta.shift) & 15
        index.nodes[node].child[position] = _child_of_level(level)
        meta.bitmap |= <uint16_t>(1 << position)
        made.parent = node
    else:
        _split(index, side, level, node, reached, index.levels[reached].key if reached else meta.prefix)
    return level


cdef inline void price_index_remove(price_index* index, uint32_t level) noexcept nogil:
    """Take this level out; its number may be given to another price next."""
    cdef price_level* gone = &index.levels[level]
    cdef uint32_t side = gone.side, parent = gone.parent, position, bits, rest = 0
    cdef price_meta* meta
    if mb_unlikely(parent == 0):
        index.root[side] = 0
    else:
        meta = &index.metas[parent]
        position = (gone.key >> meta.shift) & 15
        bits = meta.bitmap ^ <uint32_t>1 << position
        index.nodes[parent].child[position] = 0
        meta.bitmap = <uint16_t>bits
        rest = index.nodes[parent].child[mb_lowest_bit(bits)]
        if bits & (bits - 1) == 0:
            # One child is left, so the node goes and the child takes its place. Free nodes have no children.
            index.nodes[parent].child[mb_lowest_bit(bits)] = 0
            _place(index, side, meta.parent, meta.position, rest)
            meta.parent = index.free_node
            index.free_node = parent
    if index.best[side] == level:
        # Everything else under the parent is worse than this level and better than all the rest.
        index.best[side] = _lowest(index, rest)
    gone.first = index.free_level
    index.free_level = level
    index.count -= 1


cdef inline uint32_t price_index_next(const price_index* index, uint32_t level) noexcept nogil:
    """The next worse level of the same side, or 0."""
    cdef uint32_t node = index.levels[level].parent, bits
    cdef uint32_t position = (index.levels[level].key >> index.metas[node].shift) & 15
    while node:
        bits = index.metas[node].bitmap & ~((<uint32_t>2 << position) - 1)
        if bits:
            return _lowest(index, index.nodes[node].child[mb_lowest_bit(bits)])
        position = index.metas[node].position
        node = index.metas[node].parent
    return 0


cdef inline uint32_t price_index_after(const price_index* index, uint32_t side, int64_t price) noexcept nogil:
    """The best level of a side that is worse than `price`, or 0; `price` itself need not have a level."""
    cdef uint64_t key = price_key(side, price)
    cdef uint32_t child = index.root[side], node, bits, position, beyond = 0
    while _is_node(child):
        node = _node(child)
        if key >> index.metas[node].shift >> 4 << index.metas[node].shift << 4 != index.metas[node].prefix:
            # All keys below this node are on the same side of `key`.
            return _lowest(index, child if index.metas[node].prefix > key else beyond)
        position = (key >> index.metas[node].shift) & 15
        bits = index.metas[node].bitmap & ~((<uint32_t>2 << position) - 1)
        if bits:
            beyond = index.nodes[node].child[mb_lowest_bit(bits)]
        child = index.nodes[node].child[position]
    return _level(child) if child and index.levels[_level(child)].key > key else _lowest(index, beyond)
