//! Bytes in and out: sockets, TLS, WebSocket, HTTP. Knows nothing of calls.
