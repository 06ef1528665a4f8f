"""Plain Python models that the fast code is compared with."""
