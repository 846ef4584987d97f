//! The simulated Voice Live service: a product feature (`demo`, `simulate`) and a test double.
