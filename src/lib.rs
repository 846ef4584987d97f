//! `voicelived`: a small single-threaded daemon that relays voice calls between WebSocket clients
//! on a local network and the Azure Voice Live API.
//!
//! Data flows one way per direction: socket → `net` → `session` → `call` → `session` → `net` → socket.
//!
//! ```text
//! main ─► cli ─► config
//!          └───► server ─► session ─┬─► net    (sockets, TLS, WebSocket, HTTP; never call, tools)
//!                                   ├─► call   (pure: no socket, no clock, never net)
//!                                   └─► tools  (schemas and commands; never net, call)
//!                  └─► simulator (pure core; used by the loop only when a command asks for it)
//! ```
//!
//! `docs/architecture.md` tells the life of a call along these arrows; `tests/layering.rs` guards them.

#![forbid(unsafe_code)]

pub mod access;
pub mod call;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod metrics;
pub mod models;
pub mod net;
pub mod server;
pub mod session;
pub mod simulator;
pub mod spending;
pub mod system;
pub mod tools;
pub mod web;
