//! Scenarios of the call core, with a virtual clock and no socket.

#![allow(clippy::unwrap_used, reason = "a scenario that does not go as told should fail")]

mod barge_in;
mod end_of_turn;
mod makers;
mod questions;
mod reconnect;
mod rollover;
mod scene;
mod simulation;
mod start_and_end;
mod tools;
mod turns;
