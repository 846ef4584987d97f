//! The PCM pool: fixed-size blocks allocated at start, borrowed by calls' queues.
