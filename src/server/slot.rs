//! A slot of the loop: the connection in it, and how the poll's events reach that connection.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::access::Ticket;
use crate::call::client::{self, CallState};
use crate::call::ending::EndReason;
use crate::net::inbox::Inbox;
use crate::net::ws::{Message, WsPeer};
use crate::session::{Progress, SUPERSEDED, Session};
use crate::simulated::SimulatedService;
use crate::web::Visitor;

/// The side of a call's client, and of every connection that is no call. The others are the lanes of its
/// connections to the service, 1 and 2.
pub(super) const CLIENT: usize = 0;

/// How long the closing handshake of a refused call may take.
const TURN_AWAY_TIMEOUT: Duration = Duration::from_secs(2);

/// The connection in a slot, and how far it has come:
///
/// ```text
/// Free ──accept──► Visitor ──101──► Call, or Simulated in a demo
///                     │       ├───► TurnedAway (there is no room, or no right to call any more)
///                     │       └───► Free: its socket goes to the slot of the call that it takes up, whose
///                     │             socket comes here as TurnedAway, if it has one
///                     └─ served, gone or evicted ─► Free
/// Call, Simulated, TurnedAway ──Progress::Closed──► Free
/// ```
///
/// The states are boxed. All slots are allocated at the start, so an empty one has to be small.
pub(super) enum Conn {
    /// No connection. The slot's index is in the loop's list of free slots.
    Free,
    /// An HTTP connection that came to this listener (an index). What it may ask for depends on the
    /// listener, so the index stays with it until the upgrade.
    Visitor { visitor: Box<Visitor>, listener: usize },
    /// A call. It may own two more sockets, to the service, each with a token of its own.
    Call(Box<Session>),
    /// The simulated service's side of a demo call.
    Simulated(Box<SimulatedService>),
    /// A refused call. Its `ended` message and close frame are queued. The connection stays until
    /// the closing handshake is done or the deadline has come: if it were closed while unread bytes
    /// lie in the kernel, the reset could destroy the message that tells the reason.
    TurnedAway { peer: Box<WsPeer<TcpStream>>, deadline: Instant },
}

/// One place for a connection.
pub(super) struct Slot {
    pub(super) conn: Conn,
    /// The peer's address, and of a call the client's, which differs behind a trusted proxy. It is canonical: IPv4 is
    /// never mapped into IPv6.
    pub(super) address: IpAddr,
    /// The generation of the access rules that admitted the call. The call ends when it is older than
    /// the rules in force.
    pub(super) generation: u32,
    /// What a client must show to take the call up again. It is good once: each client gets a new one.
    pub(super) ticket: Option<Ticket>,
    /// The slot is in the loop's list of slots to pump.
    pub(super) marked: bool,
    /// When the connection must be pumped at the latest, even without an event.
    pub(super) deadline: Option<Instant>,
}

impl Slot {
    /// An empty slot.
    pub(super) fn free() -> Self {
        Self {
            conn: Conn::Free,
            address: IpAddr::from([0, 0, 0, 0]),
            generation: 0,
            ticket: None,
            marked: false,
            deadline: None,
        }
    }
}

impl Conn {
    /// Whether it is a visitor whose TLS handshake is not complete.
    pub(super) fn is_handshaking(&self) -> bool {
        matches!(self, Self::Visitor { visitor, .. } if visitor.is_handshaking())
    }

    /// Remembers what the poll has announced; nothing is read or written. `ending` says that the peer
    /// has closed or reset the connection; `side` is [`CLIENT`] or a lane of the service. An event for a free slot is dropped: it was on its way
    /// when the connection was closed.
    pub(super) fn mark(&mut self, side: usize, readable: bool, writable: bool, ending: bool) {
        let transport = match self {
            Self::Free => return,
            Self::Call(session) if side == CLIENT => {
                return session.mark_client(readable, writable, ending);
            }
            Self::Call(session) => return session.mark_lane(side, readable, writable, ending),
            Self::Simulated(service) => return service.mark(readable, writable, ending),
            Self::TurnedAway { peer, .. } => {
                if readable {
                    peer.mark_readable(ending);
                }
                peer.transport_mut()
            }
            Self::Visitor { visitor, .. } => visitor.transport_mut(),
        };
        if readable {
            transport.mark_readable(ending);
        }
        if writable {
            transport.mark_writable();
        }
    }
}

/// Refuses a call after the upgrade. The client gets the same `ended` message and close code as at the
/// end of a call. An HTTP error instead of the 101 would not do: a browser does not show the page's
/// script why an upgrade was refused.
pub(super) fn turn_away(mut peer: WsPeer<TcpStream>, reason: &EndReason, now: Instant) -> Conn {
    log::info!("a caller was turned away: {}", reason.word());
    let ended =
        client::call_state(CallState::Ended { reason: reason.word(), message: &reason.message() });
    // If this fails, the connection has failed, and the next pump finds that out.
    let _ = peer.send(Message::Text(&ended));
    peer.close(reason.close_code(), &reason.message());
    Conn::TurnedAway { peer: Box::new(peer), deadline: now + TURN_AWAY_TIMEOUT }
}

/// Parts with the connection of a client whose call goes on over another one. What it still sends counts
/// for nothing.
pub(super) fn part(mut peer: WsPeer<TcpStream>, now: Instant) -> Conn {
    peer.close(SUPERSEDED, "The call goes on over another connection.");
    Conn::TurnedAway { peer: Box::new(peer), deadline: now + TURN_AWAY_TIMEOUT }
}

/// Moves the closing handshake of a refused call on. `Closed` when it is done, or at the deadline.
pub(super) fn pump_turned_away(
    peer: &mut WsPeer<TcpStream>,
    deadline: Instant,
    inbox: &mut Inbox,
    now: Instant,
) -> Progress {
    peer.transport_mut().begin_turn();
    // The client's messages are read and dropped; its close frame is among them. Even if reading
    // fails, the message that was sent may still have to leave.
    while let Ok(Some(_)) = peer.read(inbox) {}
    peer.keep(inbox);
    let _ = peer.flush();
    peer.end_output();
    if now >= deadline || peer.is_done() { Progress::Closed } else { Progress::Idle }
}
