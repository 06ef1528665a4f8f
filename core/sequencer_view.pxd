"""What Python sees of the sequencer's state: for tests, tools, and who asks the exchange's process. Changes nothing."""

from libc.stdint cimport uint32_t, uint64_t
from matchbox.core.sequencer_state cimport sequencer

# What the log says of every session: dicts of number, name, account, capabilities, attached, position.
cdef list view_sessions(const sequencer* s)
# 64 bits over definitions, sessions, live orders and money.
cdef uint64_t view_hash(sequencer* s) noexcept nogil
# The live orders as far as settled, oldest first: OPEN_ORDER array. 0: of all accounts, or of all markets.
# `partner_id`: the other of a pair, 0 = none.
cdef object view_orders(const sequencer* s, uint32_t account, uint32_t market)
# Raise AssertionError if money is not conserved, is below 0, or is held for nothing or not enough. Slow.
cdef object view_check(const sequencer* s)
