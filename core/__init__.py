"""The engine: instruments, book, matcher, sequencer, publisher and the loop that runs them."""
