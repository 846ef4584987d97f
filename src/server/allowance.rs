//! What one turn of the loop has for visitors, so that calls do not wait for those who ask for much.

use super::slot::Conn;

/// Visitors that one turn attends to.
const TURN_VISITORS: usize = 8;

/// TLS handshakes among them. Each may cost a signature, a few tenths of a millisecond, for which all
/// calls wait, and a frame there and back passes two turns.
const TURN_HANDSHAKES: usize = 1;

/// What is left of a turn for visitors.
pub(super) struct Allowance {
    visitors: usize,
    handshakes: usize,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { visitors: TURN_VISITORS, handshakes: TURN_HANDSHAKES }
    }
}

impl Allowance {
    /// Whether the connection's turn is now; calls' always is.
    pub(super) fn admits(&mut self, conn: &Conn) -> bool {
        if !matches!(conn, Conn::Visitor { .. }) {
            return true;
        }
        if self.visitors == 0 || (conn.is_handshaking() && self.handshakes == 0) {
            return false;
        }
        self.visitors -= 1;
        self.handshakes -= usize::from(conn.is_handshaking());
        true
    }
}
