"""RFC 7143 as pure state machines: bytes in, events out; no socket, clock or randomness inside."""
