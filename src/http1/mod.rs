//! The HTTP/1 wire format, both sides: head parsing, framing, serialising.
