//! The real daemon, and a plain blocking client for it; and a call, or a connection, without sockets.
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod asked;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod daemon;
pub(crate) mod door;
pub(crate) mod entra;
pub(crate) mod frames;
pub(crate) mod hostile;
pub(crate) mod http;
pub(crate) mod inside;
pub(crate) mod kernel;
pub(crate) mod manager;
pub(crate) mod metrics;
pub(crate) mod network;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod pty;
pub(crate) mod random;
pub(crate) mod recorder;
pub(crate) mod scene;
pub(crate) mod script;
pub(crate) mod service;
pub(crate) mod standin;
pub(crate) mod switch;
pub(crate) mod time;
pub(crate) mod tools;
pub(crate) mod whole_call;
pub(crate) mod witness;
