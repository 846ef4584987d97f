//! Scenarios of the call core, with a virtual clock and no socket.

mod scene;
mod start_and_end;
mod tools;
mod turns;
