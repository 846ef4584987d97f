//! Who may open a call. Pure decisions: no socket, no file, no clock.
//!
//! [`gate`] judges the request's own words (`Host`, `Origin`).

pub mod gate;

pub use gate::{Authority, Gate, Origin};
