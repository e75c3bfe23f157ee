"""The checker behind every annotation in tests: integers may stand where floats are expected (PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
