//! Bytes in and out: sockets, TLS, WebSocket, HTTP. Knows nothing of calls.

pub mod body;
pub mod dial;
pub mod http;
pub mod inbox;
pub mod proxy;
pub mod socket;
pub mod suites;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod tls_words;
pub mod transport;
pub mod upgrade;
pub mod ws;
