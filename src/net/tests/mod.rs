//! Tests of more than a few lines.

mod dial;
mod http;
mod transport;
