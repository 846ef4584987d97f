//! Who sits in a slot of the loop, and how the poll's events reach them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::call::client::{self, CallState};
use crate::call::ending::EndReason;
use crate::net::inbox::Inbox;
use crate::net::ws::{Message, WsPeer};
use crate::session::{Progress, Session};
use crate::simulator::peer::SimulatedService;
use crate::web::Visitor;

/// How long a client that is turned away may take to hear it.
const TURN_AWAY_TIMEOUT: Duration = Duration::from_secs(2);

/// Who sits in a slot. All are boxed: the slots of those who might come are there from the start.
pub(super) enum Conn {
    Free,
    Visitor { visitor: Box<Visitor>, listener: usize },
    Call(Box<Session>),
    Simulated(Box<SimulatedService>),
    TurnedAway { peer: Box<WsPeer<TcpStream>>, deadline: Instant },
}

pub(super) struct Slot {
    pub(super) conn: Conn,
    pub(super) address: IpAddr,
    /// Of the access rules that a call was admitted by.
    pub(super) generation: u32,
    /// Pump it in this turn.
    pub(super) marked: bool,
    pub(super) deadline: Option<Instant>,
}

impl Slot {
    pub(super) fn free() -> Self {
        Self {
            conn: Conn::Free,
            address: IpAddr::from([0, 0, 0, 0]),
            generation: 0,
            marked: false,
            deadline: None,
        }
    }
}

impl Conn {
    /// Whether it is a visitor whose TLS handshake goes on.
    pub(super) fn is_handshaking(&self) -> bool {
        matches!(self, Self::Visitor { visitor, .. } if visitor.is_handshaking())
    }

    pub(super) fn mark(
        &mut self,
        service_side: bool,
        readable: bool,
        writable: bool,
        ending: bool,
    ) {
        let transport = match self {
            Self::Free => return,
            Self::Call(session) if service_side => {
                return session.mark_service(readable, writable, ending);
            }
            Self::Call(session) => return session.mark_client(readable, writable, ending),
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

/// Says why there is no call, as a call's end does: browsers cannot read a refused upgrade.
pub(super) fn turn_away(mut peer: WsPeer<TcpStream>, reason: &EndReason, now: Instant) -> Conn {
    log::info!("a caller was turned away: {}", reason.word());
    let ended =
        client::call_state(CallState::Ended { reason: reason.word(), message: &reason.message() });
    // A failure shows when the peer is pumped.
    let _ = peer.send(Message::Text(&ended));
    peer.close(reason.close_code(), &reason.message());
    Conn::TurnedAway { peer: Box::new(peer), deadline: now + TURN_AWAY_TIMEOUT }
}

pub(super) fn pump_turned_away(
    peer: &mut WsPeer<TcpStream>,
    deadline: Instant,
    inbox: &mut Inbox,
    now: Instant,
) -> Progress {
    peer.transport_mut().begin_turn();
    // Whatever ends the reading, what was sent may still have to leave.
    while let Ok(Some(_)) = peer.read(inbox) {}
    peer.keep(inbox);
    let _ = peer.flush();
    peer.end_output();
    if now >= deadline || peer.is_done() { Progress::Closed } else { Progress::Idle }
}
