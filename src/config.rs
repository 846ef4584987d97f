//! Environment and `.env` to one validated [`Config`]; all faults are reported at once.
