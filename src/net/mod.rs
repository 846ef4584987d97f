//! Bytes in and out: sockets, TLS, WebSocket, HTTP. Knows nothing of calls.

pub mod dial;
#[cfg(test)]
mod dial_tests;
pub mod http;
#[cfg(test)]
mod http_tests;
pub mod inbox;
pub mod proxy;
pub mod socket;
pub mod tls;
pub mod tls_words;
pub mod transport;
#[cfg(test)]
mod transport_tests;
pub mod upgrade;
pub mod ws;
