"""Does the suite find bugs? It is given some, one at a time (`make planted`)."""
