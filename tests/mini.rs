//! Only for a quick try.
#![allow(dead_code, unused_imports)]
mod assistants;
mod docs;
mod drop_in_tools;
mod layering;
mod manual;
mod metrics;
mod resume;
mod service_settings;
mod support;
