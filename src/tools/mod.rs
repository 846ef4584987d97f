//! Function-calling tools: their schemas, and the commands that run them beside the loop.
