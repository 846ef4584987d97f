//! `voicelived`: a small single-threaded daemon that relays voice calls between WebSocket clients
//! on a local network and the Azure Voice Live API.
//!
//! Data flows one way per direction: socket → `net` → `session` → `call` → `session` → `net` → socket.
//!
//! ```text
//! main ─► cli ─► config                      (settings)
//!          └───► server ─► session ─┬─► net      (sockets, TLS, WebSocket, HTTP; never call, tools)
//!                 │                 ├─► call     (pure: no socket, no clock, never net)
//!                 │                 └─► tools    (schemas and commands; never net, call)
//!                 ├─► web                        (visitors: page, upgrade, `/metrics`)
//!                 └─► simulator                  (pure core; only when a command asks for it)
//! ```
//!
//! Lent to all of them: `metrics` (counters), `models` (what is known of the service's models),
//! `system` (the operating system).
//!
//! `docs/architecture.md` tells the life of a call along these arrows; `tests/layering.rs` guards them.

#![forbid(unsafe_code)]

pub mod access;
pub mod call;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod identity;
pub use voicelived_lenient as lenient;
pub use voicelived_mcp as mcp;
pub mod metrics;
pub use voicelived_models as models;
pub mod net;
pub mod server;
pub mod session;
pub use voicelived_simulator as simulator;
pub mod simulated;
pub mod spending;
pub mod system;
pub use voicelived_tools as tools;
pub mod web;
