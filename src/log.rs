//! The daemon's log sink.
