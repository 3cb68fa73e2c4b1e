//! Sockets in: listeners, TLS, protocol choice, connections.
